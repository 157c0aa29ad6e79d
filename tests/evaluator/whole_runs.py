"""Runs on the tiny model of conftest.py: how to write one down, make it, and compare two."""

import yaml

from evaluator.config.run_config import load_config
from evaluator.run import run
from evaluator.store.records import GenerationRecord, VerdictRecord, read


def write_config(path, base, artifact, suite, out, **changes):
    """Write a configuration of three arms with two samples a problem; returns ``path``."""
    nf4 = {"model": str(base), "load": "nf4"}
    content = {
        "name": "tiny",
        "suite": str(suite),
        "out": str(out),
        "arms": [
            {"name": "base", "kind": "base", **nf4},
            {"name": "restored", "kind": "restored", "artifact": str(artifact), **nf4},
            {"name": "dense", "kind": "merged", "model": str(base)},
        ],
        "decoding": {"samples": 2, "temperature": 0.7, "max_new_tokens": 80, "batch_size": 5},
        "equivalence": {"margin": 0.05},
        "judge": {"workers": 2},
        **changes,
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def write_quick_config(folder, *, out, **options):
    """Write a configuration of two arms for the model of quick_model.py, named after ``out``.

    A run of it is short enough to be killed and started again many times: 24 completions in 12
    batches.
    """
    path = write_config(folder / f"{out.name}.yaml", out=out, **options)
    content = yaml.safe_load(path.read_text())
    content["arms"].pop()
    content["decoding"] |= {"temperature": 1.0, "max_new_tokens": 14, "batch_size": 2}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def make(path, **options):
    """Make a configured run in this process; its directory and results."""
    config = load_config(path)
    arguments = {"overwrite": False, "unsafe": False, "progress": lambda *_: None, **options}
    return config.out, run(config, command="test", **arguments)


def identities(out):
    """What must be equal in two runs of one configuration, in the order of the files."""
    generations = read(out / "generations.jsonl", GenerationRecord.from_row)
    verdicts = read(out / "verdicts.jsonl", VerdictRecord.from_row)
    return list(generations.values()), list(verdicts.values())


def lines_of(out):
    """(completions, verdicts) that are on the disk as whole lines."""
    files = (out / "generations.jsonl", out / "verdicts.jsonl")
    return tuple(f.read_bytes().count(b"\n") if f.exists() else 0 for f in files)
