"""Readers of run and bench YAML, and of a checkpoint's tokenizer."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import yaml

from evaluator.bench.config import load_bench
from evaluator.bench.plan import plan_exports, plan_runs
from evaluator.config.config_file import dump_config
from evaluator.config.run_config import deciding_fields, load_config
from tests.exporter.talking import write_tokenizer
from tests.fuzz.fuzzer import ONLY_YAML, Reader, malformed_json, malformed_yaml, mutated_bytes
from tinylora.models.chat import load_tokenizer, token_ids

ARMS = [{"name": "base", "kind": "base", "model": "m", "load": "nf4", "seed": 4}]
ARMS += [{"name": "restored", "kind": "restored", "model": "m", "artifact": "v.pt"}]
ARMS[1] |= {"formula": "full", "placement": {"": 0, "model.layers.1": "cuda:1"}}
DECODING = {"samples": 2, "temperature": 0.8, "top_p": 0.9, "top_k": 20, "max_new_tokens": 96}
DECODING |= {"batch_size": 8, "seed": 0, "repetition_penalty": "from_model"}
SHARED = {"compute_dtype": "float32", "device": "auto", "equivalence": {"margin": 0.03}}
SHARED |= {"token_level": {"enabled": True, "max_tokens": 512}, "name": "n", "out": "run"}
SHARED |= {"prompt": {"system": "You write C++.", "template": "Solve:\n{statement}"}}
SHARED |= {"judge": {"standard": "c++14", "link_flags": ["-lm"], "testlib_path": "/etc/hostname"}}
RUN = {**SHARED, "suite": "s", "arms": ARMS, "decoding": DECODING, "factor_store": "f"}
BASE = {"name": "b", "model": "m", "artifacts": [{"name": "a", "path": "v.pt", "rng": "cpu"}]}
BASE["artifacts"][0] |= {"trained_on": "16bit", "placement": {"": 0}}
FORMATS = [{"format": "nf4"}, {"name": "m", "format": "nf4-mixed", "max_bytes": "2GB"}]
FORMATS[1] |= {"prompts": "p.jsonl", "target_residual": 0.3}
BENCH = {**SHARED, "bases": [BASE], "formats": FORMATS, "repeat_seed": 5}
BENCH |= {"suites": [{"name": "x", "path": "x", "prompt": "upstream-luogu"}]}
BENCH |= {"decodings": [{"name": "greedy"}, {"name": "warm", **DECODING}]}


def write_yaml(content: dict[str, Any], random: Random, folder: Path) -> Path:
    path = folder / "config.yaml"
    if random.random() < 0.5:
        path.write_bytes(malformed_yaml(random, content))
    else:
        tokens = [odd.encode() for odd in ONLY_YAML]
        text = yaml.safe_dump(content, sort_keys=False).encode()
        path.write_bytes(mutated_bytes(random, text, tokens))
    return path


def read_run(path: Path) -> None:
    config = load_config(path)
    json.dumps(deciding_fields(config), ensure_ascii=False).encode()
    path.write_text(dump_config(config), encoding="utf-8")
    assert load_config(path) == config


def read_bench(path: Path) -> None:
    config = load_bench(path)
    for cell in plan_runs(config, plan_exports(config))[:4]:
        deciding_fields(cell.run_config(cell.exports))
    path.write_text(dump_config(config), encoding="utf-8")
    assert load_bench(path) == config


def write_malformed_tokenizer(random: Random, folder: Path) -> Path:
    write_tokenizer(folder)
    load_tokenizer(folder)  # what it imports the first time is not the reader's time
    path = folder / random.choice(("tokenizer.json", "tokenizer_config.json"))
    path.write_bytes(malformed_json(random, json.loads(path.read_text())))
    return folder


def read_tokenizer(path: Path) -> None:
    with without_stdout():
        token_ids(load_tokenizer(path), "int main() { return 0; } // 加")


@contextmanager
def without_stdout() -> Iterator[None]:
    """The library of tokenizers says some things on the standard output, which is the fuzzer's."""
    kept = os.dup(1)
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


READERS = (
    Reader("run-yaml", partial(write_yaml, RUN), read_run),
    Reader("bench-yaml", partial(write_yaml, BENCH), read_bench),
    Reader("tokenizer", write_malformed_tokenizer, read_tokenizer),
)
