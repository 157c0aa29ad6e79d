"""A wheel of this tree, installed from the index and used as a new user does; `make wheel`.

An environment of its own without the extras (so without peft), another directory, an ordinary user
where root runs this, and no bubblewrap on PATH.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("tinylora", "exporter", "evaluator")
TREE = (*PACKAGES, "pyproject.toml", "README.md", "LICENSE", "constraints.txt")
NOBODY = 65534
MERGE = "tinylora-export merge --base demo/base --artifact demo/tiny_lora_v.pt --out"
RESTORED = "--base demo/base --artifact demo/tiny_lora_v.pt --prompts demo/prompts/heldout.jsonl"
COMMANDS = f"""
tinylora-export --version
tinylora-export inspect demo/tiny_lora_v.pt
{MERGE} build/mine
{MERGE} build/bf16 --format bf16
tinylora-export verify build/bf16
tinylora-export verify build/bf16 {RESTORED}
tinylora-eval judge --suite demo/suite/heldout --completions demo/completions.example.jsonl \
--out build/judged
tinylora-eval run configs/demo.yaml
tinylora-eval table build/demo/run
"""


def call(*command, code=0, **options):
    done = subprocess.run(
        [str(part) for part in command], text=True, capture_output=True, check=False, **options
    )
    assert done.returncode == code, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def place():
    """A directory that everybody may enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.fixture(scope="module")
def wheel(place):
    (place / "tree").mkdir()
    for name in TREE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, place / "tree" / name)
    call(sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", place, place / "tree")
    return next(place.glob("*.whl"))


@pytest.fixture(scope="module")
def programs(place, wheel):
    """The folder with the installed commands."""
    folder = place / "venv" / "bin"
    call(python_for_all(), "-m", "venv", "--without-pip", folder.parent)
    pip = (sys.executable, "-m", "pip", "--python", folder / "python", "install")
    pip += ("-c", ROOT / "constraints.txt")
    call(*pip, "torch")
    call(*pip, wheel)
    return folder


def python_for_all():
    """This Python, or the system's of the same version where this lies in somebody's home."""
    own = Path(sys.base_prefix) / "bin" / "python3"
    version = f"/usr/bin/python3.{sys.version_info.minor}"
    return own if all(p.stat().st_mode & 1 for p in own.resolve().parents) else version


@pytest.fixture
def home(place):
    """A working directory with a copy of the demo, two arms and a few problems."""
    home = place / "home"
    shutil.copytree(ROOT / "demo", home / "demo")
    problems = home / "demo" / "suite" / "heldout" / "problems.jsonl"
    rows = problems.read_text(encoding="utf-8").splitlines(keepends=True)
    config = yaml.safe_load((ROOT / "configs" / "demo.yaml").read_text(encoding="utf-8"))
    config["arms"] = [arm for arm in config["arms"] if arm["name"] in ("base", "restored", "bf16")]
    config["arms"][-1]["model"] = "build/bf16"
    (home / "small").mkdir()
    (home / "small" / "problems.jsonl").write_text("".join(rows[:6]), encoding="utf-8")
    for file in problems.parent.iterdir():
        if file != problems:
            (home / "small" / file.name).symlink_to(file)
    config["suite"] = "small"
    (home / "configs").mkdir()
    (home / "configs" / "demo.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return home


@pytest.fixture
def tools(place):
    """Every program of the system but bubblewrap."""
    tools = place / "tools"
    tools.mkdir()
    for program in Path("/usr/bin").iterdir():
        if program.name != "bwrap":
            (tools / program.name).symlink_to(program)
    return tools


@pytest.mark.network
def test_a_wheel_has_the_types_and_templates_of_every_package(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    assert {name.split("/")[0] for name in names} == {*PACKAGES, names[-1].split("/")[0]}
    ours = [p for package in PACKAGES for p in (ROOT / package).rglob("*") if p.is_file()]
    data = {str(p.relative_to(ROOT)) for p in ours if p.suffix in (".py", ".h", ".cpp", ".j2")}
    assert data <= set(names)


@pytest.mark.network
def test_every_command_works_for_an_ordinary_user_elsewhere(programs, home, tools):
    user = {}
    if os.geteuid() == 0:
        for path in (home, *home.rglob("*")):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
        user = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    environment = {"PATH": f"{programs}:{tools}", "HOME": str(home), "LANG": "C.UTF-8"}
    for line in COMMANDS.strip().splitlines():
        program, *arguments = line.split()
        call(programs / program, *arguments, cwd=home, env=environment, **user)
    verify = (programs / "tinylora-export", "verify", "build/mine")  # the default format needs peft
    said = call(*verify, cwd=home, env=environment, code=1, **user)
    assert "peft is not installed" in said
    assert (home / "build" / "judged" / "verdicts.jsonl").is_file()
    assert (home / "build" / "demo" / "run" / "report.html").is_file()
