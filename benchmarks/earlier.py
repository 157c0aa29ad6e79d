"""Both stages of a run beside those of an earlier version of this project

    python -m benchmarks.earlier --commit 28529c4 [--rounds 2] [--config configs/demo.yaml]

Whole runs in float32, greedy and sampled, of both versions in turn, each in a process of its own
and from no records. Processor seconds of the merged arms, loading included, medians over rounds: of
the generation, of the token level, and of both. What a run does once (looking ahead, the restored
arm and what stands beside it) and the judge are left out.
"""

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import median

from benchmarks.harness import ROOT, parser, table, write_page

# Seconds go to the stage whose progress comes at their end, so loading goes to the arm loaded.
_ONE_RUN = """
import importlib, json, sys, time
from collections import Counter
from pathlib import Path

tree, path, out, temperature = sys.argv[1:]
sys.path.insert(0, tree)
import torch
from evaluator.run import run
torch.set_num_threads(1)
try:
    load_config = importlib.import_module("evaluator.config.run_config").load_config
except ModuleNotFoundError:
    load_config = importlib.import_module("evaluator.config").load_config
config = load_config(Path(path))
decoding = config.decoding.model_copy(update={"temperature": float(temperature)})
store = Path(out).parent / f"factors-{Path(tree).name}"
changes = {"out": Path(out), "decoding": decoding, "factor_store": store}
config, seconds, last = config.model_copy(update=changes), Counter(), time.process_time()

def clock(stage, done, total):
    global last
    now = time.process_time()
    seconds[stage] += now - last
    last = now

run(config, command="", overwrite=False, unsafe=False, progress=clock)
merged = [arm.name for arm in config.arms if arm.kind == "merged"]
stages = "generate", "tokens"
print(json.dumps([sum(seconds[f"{stage} {name}"] for name in merged) for stage in stages]))
"""


def one_run(tree: Path, config: Path, out: Path, temperature: float) -> tuple[float, float]:
    """Processor seconds of the merged arms, of the generation and of the token level."""
    command = [sys.executable, "-c", _ONE_RUN, tree, config, out, temperature]
    made = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True, check=True)
    generation, tokens = json.loads(made.stdout.splitlines()[-1])
    return generation, tokens


def main() -> None:
    options = parser(__doc__, "bench/earlier.md", rounds=2)
    options.add_argument("--commit", required=True, help="of the earlier version")
    options.add_argument("--config", type=Path, default=ROOT / "configs" / "demo.yaml")
    args = options.parse_args()
    found = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "earlier"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", str(tree), args.commit], check=True)
        try:
            for number in range(args.rounds):
                for temperature in (0.0, 0.8):
                    for version in (tree, ROOT):
                        out = Path(folder) / f"{number}-{temperature}-{version.name}"
                        seconds = one_run(version, args.config, out, temperature)
                        found[temperature, version].append((*seconds, sum(seconds)))
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)
    rows = []
    for (temperature, version), runs in found.items():
        medians = [median(seconds) for seconds in zip(*runs, strict=True)]
        earlier = median(both for *_, both in found[temperature, tree])
        rows.append(
            (
                f"{temperature:g}",
                args.commit if version == tree else "this version",
                *(f"{value:.1f}" for value in medians),
                f"{medians[-1] / earlier:.2f}",
            )
        )
    columns = ("temperature", "version", "generation s", "token level s", "both s", "of earlier")
    write_page(args.out, __doc__, table(columns, rows))


if __name__ == "__main__":
    main()
