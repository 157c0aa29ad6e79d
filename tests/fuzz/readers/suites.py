"""Readers of suites: rows of each form and container, config.yml, archives, the own form.

Where something good lies beside the malformed, it must still be read.
"""

import gzip
import io
import json
import warnings
import zipfile
from pathlib import Path
from random import Random

from evaluator.suites.importers.forms import read_source
from evaluator.suites.problem import Problem
from evaluator.suites.suite import load_suite
from tests.fuzz.fuzzer import (
    Reader,
    malformed_json,
    malformed_yaml,
    mutated_bytes,
    mutated_value,
    spell,
)

CASES = [{"input": "1 2\n", "output": " 3\n"}, {"input": "4 5\n", "output": "9\n"}]
LISTS = {"input": ["1 2\n"], "output": ["3\n"]}
TEXT = "# P1 甲\n\n误差不超过 $10^{-6}$\n\n## 样例 1\n\n**输入：**\n```\n1 2\n```\n\n"
TEXT += "**输出：**\n```\n3\n```\n\n每个字母大小写均可，输出任意。"
ROWS = {
    "upstream": {"prompt": "Solve:\n# P1 甲\n\nerror of 1e-6", "test_cases": CASES},
    "statements": {"conversations": [{"from": "human", "value": TEXT}], "chosen": "x"},
    "code-contests": {"name": "1_A", "description": "Print a + b.", "public_tests": LISTS}
    | {"private_tests": {"input": [], "output": []}, "generated_tests": LISTS}
    | {"time_limit": {"seconds": 2, "nanos": 0}, "memory_limit_bytes": 256_000_000},
    "input-output": {"problem_id": 7, "question": "Print a + b.", "metadata": {"func_name": None}}
    | {"input_output": {"inputs": ["1 2\n"], "outputs": ["3\n"]}}
    | {"time_limit": "2.0 seconds", "memory_limit": "256 megabytes"},
}
GOOD = {
    "upstream": {"prompt": "# P77 x", "test_cases": CASES},
    "statements": {"prompt": "# P77 x\n\n输入\n```\n1\n```\n输出\n```\n2\n```\n"},
    "code-contests": {"name": "P77", "description": "x", "public_tests": LISTS},
    "input-output": {"problem_id": "P77", "question": "x", "tests": CASES},
}
OWN = {"id": "a", "statement": "s", "tests": [{"name": "1", "score": 5, **CASES[0]}]}
OWN |= {"time_limit_ms": 1000, "memory_limit_kib": 65536, "checker": {"kind": "float"}}
CONFIG = {
    "1.in": {"timeLimit": 1000, "memoryLimit": 131072, "score": 40, "subtaskId": 1},
    "2.out": {"timeLimit": 2000, "isPretest": True},
}
FILES = {"1.in": b"1 2\n", "1.out": b"3\n", "2.in": b"4 5\n", "2.out": b"9\n"}
NAMES = ("1.IN", "3.in", "3.ans", "._1.in", "__MACOSX/._1.in", ".DS_Store", "Config.yml", "x/1.in")
NAMES += ("../1.in", "\\1.in", "a\nb.in", "spj.cpp", "CHECKER.CC", "config.ini", "problem.conf")
NAMES += ("题.in", "²3.in", "x" * 250 + ".in", "1.in/", "statement.md", "9" * 5000 + ".in", ".in")
NAMES += ("interactor.cpp", "checker.py", "a.zip", "config.yml", "1.out", "__MACOSX", "/", "a/b/c")
CONTENTS = (b"", b"\xff\xfe\x00", b"\xbc\xd3", b"\0" * 9, b"int main(){}", b"1.in: {score: x}")


def read(path: Path) -> list[Problem]:
    return [item for item in read_source(path) if isinstance(item, Problem)]


def read_beside_good(path: Path) -> None:
    assert any(problem.id.startswith("P77") for problem in read(path)), "the good one is lost"


def lines(form: str) -> Reader:
    def write(random: Random, folder: Path) -> Path:
        bad, good = malformed_json(random, ROWS[form]), json.dumps(GOOD[form]).encode()
        path = folder / "rows.jsonl"
        lines = random.sample([bad, bad, good], 3)
        if b"[" in (bad[:1], bad.lstrip()[:1]):  # else the file may well be one array
            lines.sort(key=good.__ne__)
        path.write_bytes(b"\n".join(lines) + b"\n")
        return path

    return Reader(f"rows-{form}", write, read_beside_good)


def write_array(random: Random, folder: Path) -> Path:
    form = random.choice(list(ROWS))
    bad, good = (spell(random, mutated_value(random, ROWS[form])), spell(random, GOOD[form]))
    path = folder / "rows.json"
    path.write_bytes(b"[" + b",\n".join(random.sample([bad, bad, good], 3)) + b"]\n")
    return path


def write_container(random: Random, folder: Path) -> Path:
    """An array, gzip or Parquet with broken bytes."""
    import pyarrow
    import pyarrow.parquet

    form = random.choice(list(ROWS))
    kind = random.choice(("json", "jsonl.gz", "json.gz", "parquet", "parquet"))
    data = spell(random, [ROWS[form], GOOD[form]])
    if kind == "parquet":
        sink = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([ROWS[form]] * 3), sink)
        data = sink.getvalue()
    elif kind.endswith("gz"):
        data = gzip.compress(data if kind == "json.gz" else spell(random, ROWS[form]) + b"\n" * 3)
    path = folder / f"rows.{kind}"
    path.write_bytes(mutated_bytes(random, data))
    return path


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def write_config(random: Random, folder: Path) -> Path:
    """One problem with a malformed config.yml beside a good one."""
    for name, config in (("P1", malformed_yaml(random, CONFIG)), ("P77", b"1.in: {score: 5}")):
        write_files(folder / "data" / name, FILES | {"config.yml": config})
    return folder / "data"


def write_zip(random: Random, folder: Path) -> Path:
    """A zip with odd names and contents, broken bytes, or both, beside a good folder."""
    write_files(folder / "data" / "P77", FILES)
    files = FILES | {name: random.choice(CONTENTS) for name in random.sample(NAMES, 3)}
    for name in random.sample(sorted(files), random.choice((0, 0, 1))):
        del files[name]
    path = folder / "data" / random.choice(("P1.zip", "P1.ZIP", "加.zip", "._P1.zip"))
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")  # names that stand twice
        for name, content in files.items():
            archive.writestr(name, content, random.choice((0, zipfile.ZIP_DEFLATED)))
    if random.random() < 0.7:
        tokens = (b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\7", b"\xff" * 4, b"\0" * 8, b"../")
        path.write_bytes(mutated_bytes(random, path.read_bytes(), tokens))
    return folder / "data"


def write_folder(random: Random, folder: Path) -> Path:
    """A folder of test data with odd names, contents and kinds of files."""
    data = write_files(folder / "P1", FILES)
    for name in random.sample([name for name in NAMES if len(name.encode()) < 255], 4):
        place = data / name.strip("/").replace("/", random.choice("_/"))
        if place.exists() or place.parent.is_file() or ".." in place.parts:
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        kind = random.randrange(8)
        if kind == 0:
            place.symlink_to("/etc/passwd")
        elif kind == 1:
            place.mkdir()
        else:
            place.write_bytes(random.choice(CONTENTS))
    for name in random.sample(sorted(FILES), random.choice((0, 0, 1))):
        (data / name).unlink()
    return data


def write_own(random: Random, folder: Path) -> Path:
    """A suite of the own form: malformed manifest, rows or archive."""
    manifest = {"format": "tinylora-suite/1", "name": "s", "digest": None}
    row = OWN if random.random() < 0.7 else {"id": "a", "statement": "s", "archive": "data"}
    ways = (spell, malformed_json) if random.random() < 0.8 else (malformed_json, spell)
    rows = ways[1](random, row) + b"\n" + spell(random, OWN)
    write_files(folder / "suite" / "data", FILES)
    files = {"suite.json": ways[0](random, manifest), "problems.jsonl": rows}
    return write_files(folder / "suite", files)


def write_saved(random: Random, folder: Path) -> Path:
    """A folder as ``save_to_disk`` writes it, one of its files broken."""
    import pyarrow

    table = pyarrow.Table.from_pylist([GOOD["upstream"]] * 2)
    sink = io.BytesIO()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    texts = {"dtype": "string", "_type": "Value"}
    features = {"prompt": texts, "test_cases": [{"input": texts, "output": texts}]}
    files = {
        "data-00000-of-00001.arrow": sink.getvalue(),
        "dataset_info.json": json.dumps({"features": features}).encode(),
        "state.json": json.dumps(
            {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_fingerprint": "f"}
            | dict.fromkeys(("_format_columns", "_format_type", "_split"))
            | {"_format_kwargs": {}, "_output_all_columns": False}
        ).encode(),
    }
    broken = random.choice(list(files))
    if broken.endswith("json") and random.random() < 0.5:
        files[broken] = malformed_json(random, json.loads(files[broken]))
    else:
        files[broken] = mutated_bytes(random, files[broken])
    return write_files(folder / "saved", files)


READERS = (
    *map(lines, ROWS),
    Reader("rows-array", write_array, read_beside_good),
    Reader("rows-containers", write_container, read),
    Reader("rows-saved", write_saved, read),
    Reader("config-yml", write_config, read_beside_good),
    Reader("archive-zip", write_zip, read_beside_good),
    Reader("archive-folder", write_folder, read),
    Reader("own-suite", write_own, load_suite),
)
