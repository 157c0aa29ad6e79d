"""Readers of completions: the file's rows, those of an arm, and the program in a text."""

import gzip
import json
from importlib import import_module
from pathlib import Path
from random import Random

from evaluator.config.run_config import ArmConfig, DecodingConfig
from evaluator.generation.backend import Asked
from evaluator.generation.backends import BACKENDS
from evaluator.generation.prompts import Prompt
from evaluator.judging.extract import extract_code
from evaluator.judging.judge_file import read_completions
from evaluator.suites.problem import Problem, TestCase
from evaluator.suites.suite import Suite
from tests.fuzz.fuzzer import Reader, malformed_json, mutated_bytes, mutated_value, spell

SUITE = Suite("s", tuple(Problem(f"P{n}", "", (TestCase("1", "", ""),)) for n in "12"), "", Path())
ASKED = Asked((Prompt("P1", "", ()),), DecodingConfig(), frozenset({"P1", "P2"}))
PROGRAM = '#include <cstdio>\nint main() {\n    puts("1");  // it\'s\n}\n'
ROW = {"problem": "P1", "sample": 0, "completion": f"So:\n\n```cpp\n{PROGRAM}```\nDone.\n"}
GOOD = json.dumps({"problem": "P2", "sample": 77, "completion": PROGRAM}).encode()
BATCH_ROW = {
    "custom_id": "P1/0",
    "response": {
        "status_code": 200,
        "body": {
            "model": "m",
            "choices": [{"message": {"content": PROGRAM}, "finish_reason": "stop"}],
            "usage": {"completion_tokens": 9},
        },
    },
    "error": None,
}
_WORDS = '``` ```` ~~~ cpp c++17 python } ; ) " \\" \' // /* */ R"( &lt; ｀｀｀ > - 暴力： 。 main('
_WORDS += " <think> </think> <|im_end|> </s> <｜end▁of▁sentence｜>"
PIECES = (*_WORDS.split(), "\n", "\n", " ", "\n```cpp\n", "\n```\n", "> ", "\n> ", "1. ", PROGRAM)
PIECES += (
    "#include <cstdio>\n",
    "#define N 1\n",
    "int main() {",
    "#include &lt;",
    "It's 1'0",
    "\r",
)
PIECES += ("\r", '"code": "#include <a>\\n main(){"', "\u00a0", "\u200b", "\ud800", "\0", "\u2028")
TOKENS = tuple(piece.encode("utf-8", "surrogatepass") for piece in PIECES)


def write_lines(random: Random, folder: Path) -> Path:
    bad = [malformed_json(random, ROW) for _ in range(2)]
    path = folder / "completions.jsonl"
    path.write_bytes(b"\n".join(random.sample([*bad, GOOD], 3)) + b"\n")
    return path


def write_file(random: Random, folder: Path) -> Path:
    """An array or lines, packed or not, changed as values and as bytes."""
    rows = [mutated_value(random, ROW), ROW, json.loads(GOOD)]
    parts = [spell(random, row) for row in random.sample(rows, 3)]
    data = b"[" + b",\n".join(parts) + b"]" if random.random() < 0.5 else b"\n".join(parts)
    packed = random.random() < 0.3
    data = gzip.compress(data) if packed else data
    path = folder / f"completions.{random.choice(('json', 'jsonl'))}{'.gz' * packed}"
    path.write_bytes(mutated_bytes(random, data, TOKENS))
    return path


def write_arm(random: Random, folder: Path) -> Path:
    """Rows of an arm in either form, changed as values and as bytes."""
    row = random.choice(({**ROW, "finish_reason": "stop", "token_count": 9}, BATCH_ROW))
    path = folder / "texts.jsonl"
    path.write_bytes(mutated_bytes(random, spell(random, mutated_value(random, row)), TOKENS))
    return path


def write_text(random: Random, folder: Path) -> Path:
    """Pieces of what models write, some of them very often."""
    times = random.choice((1, 1, 1, 50, 2000))
    pieces = (random.choice(PIECES) * random.choice((1, 1, times)) for _ in range(40))
    text = "".join(pieces).encode("utf-8", "surrogatepass")
    path = folder / "text"
    path.write_bytes(mutated_bytes(random, text, TOKENS) if random.random() < 0.5 else text)
    return path


def read(path: Path) -> tuple:
    texts, not_judged = read_completions(path, SUITE)
    for text in texts.values():
        extract(text)
    for row in not_judged:
        assert row.where and row.reason, "a row is left out without its place and reason"
    return texts, not_judged


def read_beside_good(path: Path) -> None:
    is_array = path.read_bytes().lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")
    texts, not_judged = read(path)
    ends_early = is_array and not_judged and "does not end" in not_judged[-1].reason
    assert ("", "P2", 77) in texts or ends_early, "the good one is lost"


def read_arm(path: Path) -> None:
    arm = ArmConfig.model_validate({"name": "a", "kind": "completions", "completions": path})
    assert import_module(BACKENDS["completions"]).BACKEND.describe(arm, ASKED, None).digest


def extract(text: str) -> None:
    found = extract_code(text)
    assert (found.code is None) == (found.how == "none") == (found.reason is not None)
    assert found.code is None or found.code.strip()


def read_text(path: Path) -> None:
    extract(path.read_bytes().decode("utf-8", "surrogateescape"))


READERS = (
    Reader("completions-lines", write_lines, read_beside_good),
    Reader("completions-files", write_file, read),
    Reader("completions-of-an-arm", write_arm, read_arm),
    Reader("completions-texts", write_text, read_text),
)
