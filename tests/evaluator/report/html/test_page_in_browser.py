"""The page in headless Chromium: links that open a problem, room on any screen, no script."""

import json
import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from tests.evaluator.report.html.made_runs import EVIL, make_run

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on this machine (Debian's package is chromium)"
)

# Per chosen problem: which are shown, and what sticks out of the window to the right, except
# inside of boxes that scroll by themselves.
LOOK = """<script>
const sticksOut = e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1
    && !e.closest('.scroll, pre, .statement table, svg');
const found = {title: document.title, problems: {}};
for (const name of ['', 'p3', 'p5']) {
    location.hash = name;
    const all = [...document.querySelectorAll('article.problem')];
    found.problems[name] = [
        all.filter(e => getComputedStyle(e).display !== 'none').map(e => e.id),
        [...document.querySelectorAll('body *')].filter(sticksOut).map(e => e.outerHTML)];
}
parent.postMessage(JSON.stringify(found), '*');
</script>"""
FRAMES = """<iframe src="page.html" width="{width}" height="900"></iframe><script>
onmessage = event => {{ document.body.textContent = 'FOUND' + event.data + 'END'; }}
</script>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page with hostile texts, one of them a megabyte in one line."""

    def evil_text(g):
        line = "x" * 1_000_000 if g.problem == "P5" else EVIL
        return replace(g, text=f"```cpp\n#include <a>\n{line}\n// {g.arm}\n```")

    directory, _ = make_run(
        tmp_path_factory.mktemp("browser"),
        change_problem=lambda p: replace(p, statement=p.statement + EVIL, title=EVIL),
        change_verdict=lambda v: replace(v, detail=EVIL + "y" * 900),
        change_generation=evil_text,
    )
    return directory.page.read_text()


@pytest.mark.parametrize("width", [400, 1400])
def test_a_problem_is_shown_where_its_link_leads_and_nothing_sticks_out(page, width, tmp_path):
    """Even without the policy that would keep a script from running."""
    open_page, policies = re.subn('<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    assert policies == 1
    (tmp_path / "page.html").write_text(open_page.replace("</body>", f"{LOOK}</body>"))
    (tmp_path / "frames.html").write_text(FRAMES.format(width=width))
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000")
    command = [CHROMIUM, *flags, f"--user-data-dir={tmp_path}/profile", "--dump-dom"]
    command.append(f"file://{tmp_path}/frames.html")
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = json.loads(re.search("FOUND(.*)END", done.stdout)[1])
    assert found["title"] == "demo: report"
    assert found["problems"] == {"": [[], []], "p3": [["p3"], []], "p5": [["p5"], []]}
