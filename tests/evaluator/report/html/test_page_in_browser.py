"""The page in headless Chromium: what its links and choices show, and that it asks nobody."""

import json
import re
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

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
const found = {title: document.title, problems: {}, rows: {}};
for (const name of ['', 'p3', 'p5']) {
    location.hash = name;
    const all = [...document.querySelectorAll('article.problem')];
    found.problems[name] = [
        all.filter(e => getComputedStyle(e).display !== 'none').map(e => e.id),
        [...document.querySelectorAll('body *')].filter(sticksOut).map(e => e.outerHTML)];
}
const rows = [...document.querySelectorAll('table.flipped tr[id]')];
for (const choice of document.querySelectorAll('.choice input')) {
    choice.checked = true;
    const left = rows.filter(e => getComputedStyle(e).display !== 'none').map(e => e.id);
    found.rows[choice.parentElement.textContent.trim()] = left;
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
    found = json.loads(re.search("FOUND(.*)END", browse(tmp_path / "frames.html"))[1])
    assert found["title"] == "demo: report"
    assert found["problems"] == {"": [[], []], "p3": [["p3"], []], "p5": [["p5"], []]}
    odd = [f"r{i}" for i in range(20) if i % 2]
    assert found["rows"]["nf4"] == ["r3", "r25"] and found["rows"]["bf16"] == []
    assert sorted(found["rows"]["base"]) == sorted(odd)
    assert sorted(found["rows"]["all"]) == sorted([*odd, "r25"])


@contextmanager
def proxy():
    """A proxy that answers nothing and keeps the lines of all requests."""
    lines = []

    class Keep(BaseHTTPRequestHandler):
        def do_GET(self):
            lines.append(self.requestline)
            self.send_error(404)

        do_CONNECT = do_POST = do_GET  # noqa: N815 - names that http.server looks for

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Keep)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port, lines
    finally:
        server.shutdown()
        server.server_close()


def browse(page, *flags):
    """Load a file and give the elements that it has then."""
    usual = ("--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000")
    profile = f"--user-data-dir={page.parent}/profile"
    command = [CHROMIUM, *usual, *flags, profile, "--dump-dom", f"file://{page}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def test_hostile_texts_make_no_request(page, tmp_path):
    """Nor without the policy; the same texts as elements show that the log would have them."""
    with proxy() as (port, lines):
        flags = (f"--proxy-server=127.0.0.1:{port}", "--proxy-bypass-list=<-loopback>")
        for name, text in (
            ("page", page),
            ("open", re.sub('<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)),
        ):
            (tmp_path / f"{name}.html").write_text(text)
            browse(tmp_path / f"{name}.html", *flags)
        assert "evil.example" in page and not [line for line in lines if "evil" in line]
        (tmp_path / "bad.html").write_text('<img src="http://evil.example/i.png">')
        browse(tmp_path / "bad.html", *flags)
        assert any("evil.example/i.png" in line for line in lines)
