"""What `make demo` would do, as make itself says; nothing is run."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXPORTS = ("nf4", "nf4-calibrated", "nf4-mixed", "nf4-embedded", "bf16")


def lines_of(tmp_path):
    (tmp_path / ".ready").touch()
    command = ["make", "--dry-run", "demo", f"VENV={tmp_path}", f"DEMO={tmp_path}/demo"]
    # the tests may run below a make, whose options this one is not to have
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_the_demo_makes_what_is_missing_and_goes_on_with_its_run(tmp_path):
    *exports, run = lines_of(tmp_path)
    assert [line.rpartition("/")[2] for line in exports] == list(EXPORTS)
    assert "--format nf4 --requantize calibrated --prompts" in exports[1]
    assert "--format nf4-mixed --target-residual 0.3 --prompts" in exports[2]
    assert run.endswith("tinylora-eval run configs/demo.yaml")  # and overwrites no record
    for name in EXPORTS[:3]:
        (tmp_path / "demo" / name).mkdir(parents=True)
        (tmp_path / "demo" / name / "export_manifest.json").touch()
    *exports, run = lines_of(tmp_path)
    assert [line.rpartition("--out ")[2] for line in exports] == [
        f"{tmp_path}/demo/nf4-embedded",
        f"{tmp_path}/demo/bf16",
    ]
