"""Readers of what a run or an export wrote, which may have come from anywhere since."""

import json
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from random import Random

import torch
from safetensors.torch import save

from evaluator.report.results import read_summary, write_results
from evaluator.report.sentences import describe
from evaluator.report.tables import arms_table, languages_table, sensitivity_table, verdicts_table
from evaluator.report.token_tables import token_table
from evaluator.store.records import GenerationRecord, TestRecord, TokenRecord, VerdictRecord
from evaluator.store.run_directory import ArmFacts, ProblemFacts, RunDirectory, RunFacts
from exporter import verify
from exporter.compare.prompts import read_prompts
from tests.exporter.talking import write_tokenizer
from tests.fuzz.fuzzer import Reader, malformed_json

ARMS = {"base": "base", "restored": "restored", "nf4": "merged"}
PROBLEMS = ("P1", "P2", "P3")
CODE = "3" * 64
FACTS = RunFacts(
    config={
        "name": "demo",
        "equivalence": {"margin": 0.05},
        "decoding": {"samples": 1, "temperature": 0.8, "seed": 0, "batch_size": 16},
        "arms": [{"name": name, "seed": None} for name in ARMS],
        "compute_dtype": "float32",
    },
    suite="made up",
    suite_digest="0" * 64,
    prompts_digest="1" * 64,
    problems=tuple(ProblemFacts(name, "f", "zh") for name in PROBLEMS),
    arms=tuple(ArmFacts(name, kind, "2" * 64, None, 9, 0.5, 0.5) for name, kind in ARMS.items()),
    near_copies=(("P1", "P2"),),
)
PLACES = [(arm, problem, 0) for arm in ARMS for problem in PROBLEMS]
TESTS = (TestRecord("1", "AC", 1.0, 3, 100), TestRecord("2", "WA", 0.0, 3, 100, 0, None, "line 1"))
LEVELS = ("base", "nf4", "restored (again)", "restored (folded)", "restored (as run)")
ROWS = {
    "generations.jsonl": [
        GenerationRecord(*place, f"```cpp\nint {place[0]};\n```", 20, "stop", 0.1, tokens=(1, 2))
        for place in PLACES
    ],
    "verdicts.jsonl": [
        VerdictRecord(*place, verdict, 50.0, CODE, "fence", "", "", "", {"1": 5.0}, TESTS)
        for place, verdict in zip(PLACES, ["AC", "WA", "AC"] * 2 + ["WA"] * 3, strict=True)
    ],
    "token_level.jsonl": [
        TokenRecord(arm, problem, 0, CODE, 1, (0.1, 0.2), (0.5, 0.6), 0.7)
        for arm in LEVELS
        for problem in PROBLEMS
    ],
}
MACHINE = {"cpu": "c", "cpus": 2, "device": "cpu", "gpu": None}
SESSION = {"command": "run x", "versions": {"torch": "9"}, "machine": MACHINE, "sandbox": {}}
RESIDUAL = {"module": "model.layers.0.q_proj", "residual": 0.5, "delta_norm": 2.0}
STATEMENT = {"title": "t", "statement": "$a$", "tests": {"1": {"input": "1", "output": "2"}}}
LINES = {name: [asdict(row) for row in rows] for name, rows in ROWS.items()}
LINES["statements.jsonl"] = [{"id": name, **STATEMENT} for name in PROBLEMS]
OBJECTS = {
    "run.json": asdict(FACTS),
    "environment.json": {"sessions": [SESSION | {"started": "2026-01-01T00:00:00+00:00"}]},
    "plan.json": {"id": "0" * 16, "suite": "0" * 64, "margin": 0.05},
    "fidelity.json": {"nf4": [RESIDUAL], "base": []},
}
WEIGHTS = save({"model.norm.weight": torch.ones(4)})
MANIFEST = {
    "format": "tinylora-export/1", "options": {"format": "fp32"}, "targets": ["model.layers.0.q"],
    "tensors": {"model.safetensors": {"model.norm.weight": ["F32", [4]]}}, "warnings": ["w"],
    "files": {"model.safetensors": sha256(WEIGHTS).hexdigest()},
    "fidelity": {"capture": 0.5, "residual": 0.5, "verdict": "kept"},
}  # fmt: skip
RETENTION = {"retention": 0.9, "tokens": 100}
CHAT = [{"role": "user", "content": "sum"}, {"role": "assistant", "content": "int main"}]
TEXTS = [{"text": "int n"}, {"prompt": "sum of", "completion": "n"}, {"messages": CHAT}]


def write_run(random: Random, folder: Path) -> Path:
    """A finished run; one of its files is malformed, of records one line."""
    broken = random.choice((*OBJECTS, *LINES, "run.json", "verdicts.jsonl"))
    for name, content in OBJECTS.items():
        spelled = (
            malformed_json(random, content) if name == broken else json.dumps(content).encode()
        )
        (folder / name).write_bytes(spelled)
    for name, rows in LINES.items():
        lines = [json.dumps(row).encode() for row in rows]
        if name == broken:
            place = random.randrange(len(rows))
            lines[place] = malformed_json(random, rows[place])
        (folder / name).write_bytes(b"\n".join(lines) + b"\n")
    return folder


def write_export(random: Random, folder: Path) -> Path:
    files = {"export_manifest.json": MANIFEST, "retention.json": RETENTION}
    broken = random.choice(("export_manifest.json", *files))
    for name, content in files.items():
        spelled = (
            malformed_json(random, content) if name == broken else json.dumps(content).encode()
        )
        (folder / name).write_bytes(spelled)
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    return folder


def write_texts(random: Random, folder: Path) -> Path:
    write_tokenizer(folder)
    (folder / "config.json").write_text('{"model_type": "qwen2", "max_position_embeddings": 64}')
    lines = [json.dumps(row).encode() for row in TEXTS]
    place = random.randrange(len(TEXTS))
    lines[place] = malformed_json(random, TEXTS[place])
    (folder / "texts.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    return folder


def read_records(path: Path) -> None:
    summary = read_summary(RunDirectory(path))
    for table in (arms_table, token_table, sensitivity_table, verdicts_table, languages_table):
        if (found := table(summary)) is not None:
            found.markdown()
    describe(summary)


def read_export(path: Path) -> None:
    report = verify(path)
    json.dumps([report.measured, report.warnings, [check.problems for check in report.checks]])


READERS = (
    Reader("run-records", write_run, read_records),
    Reader("run-report", write_run, lambda path: write_results(RunDirectory(path)), share=0.1),
    Reader("run-again", write_run, lambda path: RunDirectory(path).differences(FACTS)),
    Reader("export-manifest", write_export, read_export),
    Reader("texts", write_texts, lambda path: read_prompts(path / "texts.jsonl", path)),
)
