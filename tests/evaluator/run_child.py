"""One run, as ``tests/fork_server.py`` has it made by a process of its own."""

import functools
import os
from pathlib import Path

from evaluator import run as run_module
from evaluator.config import load_config

# The real one, but its program is compiled once for all runs of the server.
run_module.probe_sandbox = functools.cache(run_module.probe_sandbox)


def child(fields):
    os.environ.update(fields.get("environment", {}))
    config = load_config(Path(fields["config"]))
    run_module.run(
        config, command="forked", overwrite=False, unsafe=False, progress=lambda *_: None
    )
