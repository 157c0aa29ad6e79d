"""Every command of the READMEs runs, and both READMEs give the same ones.

`make demo` and `make test` themselves are run by CI; here their targets must exist. The commands of
the tools run as they stand there, in a copy of the tree whose demo configuration is cut down to two
arms and a few problems, and its bench to one format and one decoding.
"""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
READMES = ("README.md", "README.zh-CN.md")
TOOLS = {"tinylora-export": "exporter", "tinylora-eval": "evaluator"}
PROBLEMS = 6


def blocks(readme, language):
    text = (ROOT / readme).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(readme):
    lines = "".join(blocks(readme, "bash")).splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


def code_of(readme):
    """The Python block without its comments, which are translated."""
    return re.sub(r"\s*#.*", "", blocks(readme, "python")[0])


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A directory with the demo and a small configuration under the demo's name."""
    directory = tmp_path_factory.mktemp("tree")
    (directory / "demo").symlink_to(ROOT / "demo")
    small = directory / "small-suite"
    shutil.copytree(ROOT / "demo" / "suite" / "heldout", small)
    rows = (small / "problems.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (small / "problems.jsonl").write_text("".join(rows[:PROBLEMS]), encoding="utf-8")
    config = yaml.safe_load((ROOT / "configs" / "demo.yaml").read_text(encoding="utf-8"))
    config["suite"] = str(small)
    config["arms"] = [arm for arm in config["arms"] if arm["kind"] != "merged"]
    (directory / "configs").mkdir()
    (directory / "configs" / "demo.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    bench = yaml.safe_load((ROOT / "configs" / "bench.yaml").read_text(encoding="utf-8"))
    bench["suites"] = [{"name": "heldout", "path": str(small)}]
    bench["formats"], bench["decodings"] = bench["formats"][:1], bench["decodings"][:1]
    (directory / "configs" / "bench.yaml").write_text(yaml.safe_dump(bench), encoding="utf-8")
    return directory


def test_both_languages_give_the_same_commands_and_code():
    english, chinese = READMES
    assert commands(english) == commands(chinese)
    assert commands(english)[:2] == [["make", "demo"], ["make", "test"]]
    assert code_of(english) == code_of(chinese)


def test_every_make_target_exists():
    makefile = (ROOT / "Makefile").read_text()
    every = [c for document in (*READMES, "CONTRIBUTING.md") for c in commands(document)]
    targets = {command[1] for command in every if command[0] == "make"}
    assert targets >= {"setup", "demo", "test", "lint", "type", "bench", "gpu"}
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


PATH = r"\b(?:tinylora|exporter|evaluator|benchmarks|tests|docs|results|configs)/[\w./-]*\w"


def test_paths_named_in_documents_exist():
    for document in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")):
        for path in re.findall(PATH, document.read_text(encoding="utf-8")):
            assert "NAME" in path or (ROOT / path).exists(), f"{document.name}: {path}"


def test_modules_named_in_docstrings_exist():
    for package in ("tinylora", *TOOLS.values()):
        for file in (ROOT / package).rglob("*.py"):
            for module in re.findall(r":mod:`~?([\w.]+)`", file.read_text()):
                path = ROOT.joinpath(*module.split("."))
                assert path.is_dir() or path.with_suffix(".py").exists(), f"{file}: {module}"


def test_the_tools_commands_run_as_written(tree):
    run = [command for command in commands("README.md") if command[0] in TOOLS]
    assert len(run) >= 6
    for tool, *arguments in run:
        call = f"import sys; sys.argv[0] = {tool!r}; from {TOOLS[tool]}.cli import app; app()"
        environment = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", call, *arguments], cwd=tree, text=True, capture_output=True,
            check=False, env=environment | {"LANG": "C.UTF-8"},
        )  # fmt: skip
        assert done.returncode == 0, f"{tool} {arguments}\n{done.stdout}\n{done.stderr}"
    assert (tree / "build" / "mine" / "adapter_model.safetensors").exists()
    assert (tree / "build" / "judged" / "verdicts.jsonl").exists()
    assert (tree / "build" / "imported" / "problems.jsonl").exists()
    assert "nf4" in (tree / "build" / "demo" / "bench" / "tables" / "bench.md").read_text()


def test_the_python_example_runs(tree, monkeypatch):
    monkeypatch.chdir(tree)
    scope = {}
    exec(blocks("README.md", "python")[0], scope)
    assert scope["restoration"].wrapped
