"""Readers of suites: rows of each form, config.yml, archives, folders of the own form."""

from pathlib import Path
from random import Random

from evaluator.suites.importers.draft import Skipped
from evaluator.suites.importers.source import read_source
from evaluator.suites.problem import Problem
from tests.fuzz.fuzzer import Reader, malformed_json

CASES = [{"input": "1 2\n", "output": " 3\n"}, {"input": "4 5\n", "output": "9\n"}]
LISTS = {"input": ["1 2\n"], "output": ["3\n"]}
STATEMENT = "# P1 甲\n\n## 样例 1\n\n**输入：**\n```\n1 2\n```\n\n**输出：**\n```\n3\n```\n"
ROWS = {
    "upstream": {"prompt": "Solve:\n# P1 甲\n\nx", "test_cases": CASES},
    "statements": {"conversations": [{"from": "human", "value": STATEMENT}], "chosen": {}},
    "code-contests": {"name": "1_A", "description": "Print a + b.", "public_tests": LISTS}
    | {"private_tests": {"input": [], "output": []}, "generated_tests": LISTS}
    | {"time_limit": {"seconds": 2, "nanos": 0}, "memory_limit_bytes": 256_000_000},
    "input-output": {"problem_id": 7, "question": "Print a + b.", "metadata": {"func_name": None}}
    | {"input_output": {"inputs": ["1 2\n"], "outputs": ["3\n"]}}
    | {"time_limit": "2.0 seconds", "memory_limit": "256 megabytes"},
}
OWN = {"id": "a", "statement": "s", "tests": [{"name": "1", "score": 5, **CASES[0]}]}
OWN |= {"time_limit_ms": 1000, "memory_limit_kib": 65536, "checker": {"kind": "float"}}


def read(path: Path, form: str | None = None) -> list[Problem | Skipped]:
    return list(read_source(path, form))


def rows(form: str) -> Reader:
    """Rows of a form, one malformed among good ones."""

    def write(random: Random, folder: Path) -> Path:
        path = folder / "rows.jsonl"
        path.write_bytes(malformed_json(random, ROWS[form]) + b"\n")
        return path

    return Reader(f"rows-{form}", write, lambda path: read(path, form))


READERS = tuple(map(rows, ROWS))
