"""One run or bench, as ``tests/fork_server.py`` has it made by a process of its own."""

import os
import signal
from pathlib import Path

from evaluator import run as run_module
from evaluator.bench.bench import bench
from evaluator.bench.config import load_bench
from evaluator.config.run_config import load_config
from evaluator.generation import stage as generation_stage
from evaluator.judging import stage as judging_stage
from evaluator.store.records import append
from tests.evaluator.whole_runs import lines_of


def child(fields):
    os.environ.update(fields.get("environment", {}))
    if "stop_after" in fields:
        _stop_after(fields["stop_after"], Path(fields["out"]))
    options = {"command": "forked", "unsafe": False, "progress": lambda *_: None}
    if "bench" in fields:
        bench(load_bench(Path(fields["bench"])), **options)
    else:
        run_module.run(load_config(Path(fields["config"])), overwrite=False, **options)


def _stop_after(lines, out):
    """Have this process stop itself, once, as soon as so many records are on the disk."""
    left = [signal.SIGSTOP]

    def append_and_stop(path, records, *line):
        append(path, records, *line)
        if left and sum(lines_of(out)) >= lines:
            os.kill(os.getpid(), left.pop())

    generation_stage.append = judging_stage.append = append_and_stop
