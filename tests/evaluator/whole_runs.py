"""Runs on the tiny model of conftest.py: how to write one down, make it, and compare two."""

import functools

import yaml

from evaluator import run as run_module
from evaluator.config.run_config import load_config
from evaluator.store.records import GenerationRecord, VerdictRecord, read

# The real one, but its program is compiled once for all runs of this process and its children.
run_module.probe_sandbox = functools.cache(run_module.probe_sandbox)
RECORDS = ("generations.jsonl", "verdicts.jsonl")


def two_arms(base, artifact, **fields):
    """The base, and the base with the adapter at run time."""
    fields["model"] = str(base)
    restored = {"name": "restored", "kind": "restored", "artifact": str(artifact), **fields}
    return [{"name": "base", "kind": "base", **fields}, restored]


def merged(name, model, **fields):
    """The arm of an export."""
    return {"name": name, "kind": "merged", "model": str(model), **fields}


def write_config(path, base, artifact, suite, out, **changes):
    """Write a configuration of three arms with two samples a problem; returns ``path``."""
    content = {
        "name": "tiny",
        "suite": str(suite),
        "out": str(out),
        "arms": [*two_arms(base, artifact, load="nf4"), merged("dense", base)],
        "decoding": {"samples": 2, "temperature": 0.7, "max_new_tokens": 80, "batch_size": 5},
        "equivalence": {"margin": 0.05},
        "judge": {"workers": 2},
        **changes,
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def write_quick_config(folder, *, base, artifact, out, **options):
    """Write a configuration of two arms for the model of quick_model.py, named after ``out``.

    A run of it is short enough to be killed and started again many times: 24 completions in 12
    batches.
    """
    arms = two_arms(base, artifact, load="nf4")
    decoding = {"samples": 2, "temperature": 1.0, "max_new_tokens": 14, "batch_size": 2}
    decoding |= options.pop("decoding", {})
    options = {"base": base, "artifact": artifact, "arms": arms, "decoding": decoding, **options}
    return write_config(folder / f"{out.name}.yaml", out=out, **options)


def make(path, **options):
    """Make a configured run in this process; its directory and results."""
    config = load_config(path)
    arguments = {"overwrite": False, "unsafe": False, "progress": lambda *_: None, **options}
    return config.out, run_module.run(config, command="test", **arguments)


def identities(out):
    """What must be equal in two runs of one configuration, in the order of the files."""
    generations = read(out / "generations.jsonl", GenerationRecord.from_row)
    verdicts = read(out / "verdicts.jsonl", VerdictRecord.from_row)
    return list(generations.values()), list(verdicts.values())


def cut(out, shares):
    """Leave this share of the bytes of completions and verdicts, as a kill may; ``out``."""
    for name, share in zip(RECORDS, shares, strict=True):
        content = (out / name).read_bytes()
        (out / name).write_bytes(content[: int(share * len(content))])
    return out


def lines_of(out):
    """(completions, verdicts) that are on the disk as whole lines."""
    files = (out / name for name in RECORDS)
    return tuple(f.read_bytes().count(b"\n") if f.exists() else 0 for f in files)
