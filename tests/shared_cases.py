"""Print what the tools make of a folder of inputs that once failed, as a table.

    python -m tests.shared_cases FOLDER [testlib.h]

Malformed inputs must end in an error of the project, or be read rightly; inputs for the judge have
a verdict to get. The folder is not part of the project: each kind has a test with its own input.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "demo"
SUM = '```cpp\n#include <cstdio>\nint main(){int a,b;scanf("%d%d",&a,&b);printf("%d\\n",a+b);}\n```'
YES = '```cpp\n#include <cstdio>\nint main(){puts("YES");}\n```'
LIMIT_SECONDS = 60


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    seconds: float
    said: str

    @property
    def in_words(self) -> bool:
        """Whether it ended by itself, in time and without a traceback."""
        return self.code in (0, 1, 2) and "Traceback" not in self.said

    @property
    def last(self) -> str:
        lines = [line for line in self.said.splitlines() if line.strip()]
        return ascii(" ".join(lines[-1:]))[1:-1][-110:]


def run(*command: object) -> Outcome:
    started = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, "-m", *map(str, command)], cwd=ROOT, capture_output=True,
            stdin=subprocess.DEVNULL, timeout=LIMIT_SECONDS,
        )  # fmt: skip
        code, said = done.returncode, (done.stdout + done.stderr).decode(errors="replace")
    except subprocess.TimeoutExpired:
        code, said = -1, f"no end after {LIMIT_SECONDS} s"
    return Outcome(code, time.monotonic() - started, said)


def verdicts(suite: Path, rows: list[dict] | Path, *options: str) -> tuple[list[str], Outcome]:
    """Judge completions on a suite; the verdicts in order."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        completions = rows
        if isinstance(rows, list):
            completions = folder / "c.jsonl"
            completions.write_text("".join(json.dumps(row) + "\n" for row in rows))
        done = run("evaluator", "judge", "--suite", suite, "--completions", completions,
                   "--out", folder / "out", *options)  # fmt: skip
        file = folder / "out" / "verdicts.jsonl"
        found = file.read_text().splitlines() if file.is_file() else []
        return [json.loads(line)["verdict"] for line in found], done


def imported(source: Path) -> tuple[Outcome, dict[str, str]]:
    """Import; the outcome and the texts of the suite's files."""
    with tempfile.TemporaryDirectory() as name:
        done = run("evaluator", "import", source, "--out", Path(name) / "out")
        files = (Path(name) / "out").rglob("*.jsonl")
        return done, {file.name: file.read_text(encoding="utf-8") for file in files}


def completion(problem: str, text: str) -> list[dict]:
    return [{"problem": problem, "sample": 0, "completion": text}]


def program(path: Path) -> str:
    return f"```cpp\n{path.read_text()}```"


def judge_cases(folder: Path, testlib: list[str]) -> Iterator[tuple[str, bool, str]]:
    for name in ("AD1.zip", "CK1.zip", "CK2.zip", "CK4.zip", "CF1.zip", "gbk_statement.zip"):
        found, done = verdicts(folder / name, completion(name[:-4], SUM))
        yield name, found == ["AC"] or (done.in_words and done.code > 0), f"{found} {done.last}"
    for name in ("checker_data_name.zip", "checker_testlib.zip"):
        for standard in ("c++98", "c++14", "c++20"):
            rows = completion(name[:-4], SUM)
            options = [part for path in testlib for part in ("--testlib", path)]
            found, done = verdicts(folder / name, rows, "--standard", standard, *options)
            yield f"{name} {standard}", found == ["AC"], f"{found} {done.last}"
    for suite, rows, wanted in (
        ("float.jsonl", folder / "c_F.jsonl", ["AC"]),
        ("anycase.jsonl", completion("C", YES), ["AC"]),
        ("apostrophe.jsonl", completion("A", SUM), ["AC"]),
        ("mem256.jsonl", folder / "c_M.jsonl", ["AC"]),
        ("time1000.jsonl", completion("T", SUM), ["AC"]),
        ("suite1.jsonl", completion("P1001", program(folder / "devstdin.cpp")), ["AC"]),
        ("suite1.jsonl", completion("P1001", program(folder / "inodes.cpp")), ["RE"]),
    ):
        found, done = verdicts(folder / suite, rows)
        yield (
            f"{suite} {len(rows) if isinstance(rows, list) else rows.name}",
            found == wanted,
            (f"{found} {done.last}"),
        )
    found, done = verdicts(folder / "suite1.jsonl", folder / "extract.jsonl")
    names = [
        json.loads(line)["name"] for line in (folder / "extract.jsonl").read_text().splitlines()
    ]
    bad = [name for name, verdict in zip(names, found, strict=True) if verdict != "AC"]
    yield "extract.jsonl", not bad, f"{len(found)} programs, not AC: {bad}"
    for name in ("bom.jsonl", "hugeint.jsonl"):
        found, done = verdicts(folder / "suite1.jsonl", folder / name)
        good = bool(found) if name.startswith("bom") else "line 1" in done.said
        yield name, good and done.in_words, done.last
    for name in ("T1.zip", "inf_limit.zip", "yaml_date.zip", "folder_inf", "bad_row2.jsonl"):
        done, files = imported(folder / name)
        yield name, done.in_words, f"exit {done.code}, {sorted(files)} {done.last}"


def overlaid(case: Path, folder: Path) -> Path:
    """The demo's base with the files of a case."""
    base = folder / "base"
    shutil.copytree(DEMO / "base", base)
    for file in case.iterdir():
        (base / file.name).unlink(missing_ok=True)
        shutil.copyfile(file, base / file.name)
    return base


def malformed(case: Path, kind: str) -> Outcome:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if kind in ("artifact", "peft"):
            return run("exporter", "inspect", case)
        if kind in ("base", "chat_template"):
            base = overlaid(case, folder)
            options = ("--artifact", DEMO / "tiny_lora_v.pt", "--out", folder / "out")
            texts = ("--requantize", "calibrated", "--prompts", folder / "chat.jsonl")
            row = {
                "messages": [
                    {"role": "user", "content": "a"},
                    {"role": "assistant", "content": "b"},
                ]
            }
            (folder / "chat.jsonl").write_text(json.dumps(row) + "\n")
            more = texts if kind == "chat_template" else ()
            return run("exporter", "merge", "--base", base, *options, "--format", "nf4", *more)
        if kind == "bench_yaml":
            return run("evaluator", "bench", case, "--dry-run")
        if kind == "suite":
            (folder / "c.jsonl").write_text(json.dumps(completion("P1", SUM)[0]) + "\n")
            return run("evaluator", "judge", "--suite", case, "--completions", folder / "c.jsonl",
                       "--out", folder / "out")  # fmt: skip
        if kind in ("run_yaml", "fuzz-yaml"):
            return run("evaluator", "run", case)
        if kind == "fuzz-completions":
            suite = folder / "suite.jsonl"
            test = {"input": "1 2\n", "output": "3\n"}
            suite.write_text(json.dumps({"prompt": "# P1 a\n\nx", "test_cases": [test]}) + "\n")
            return run("evaluator", "judge", "--suite", suite, "--completions", case,
                       "--out", folder / "out")  # fmt: skip
        if kind == "rich_markup":
            shutil.copyfile(case, folder / "run.json")
            return run("evaluator", "table", folder)
        return run("evaluator", "import", case, "--out", folder / "out")


def main() -> None:
    folder = Path(sys.argv[1]).resolve()
    rows = [(f"judge/{name}", *rest) for name, *rest in judge_cases(folder / "judge", sys.argv[2:])]
    for kind in sorted(path for path in (folder / "fuzz").iterdir()):
        for case in sorted(kind.iterdir()):
            done = malformed(case, kind.name)
            said = f"exit {done.code}, {done.seconds:.1f} s: {done.last}"
            rows.append((f"{kind.name}/{case.name}", done.in_words, said))
    for name, good, said in rows:
        print(f"{'ok  ' if good else 'FAIL'} {name:50.50} {said}")
    print(f"{sum(not good for _, good, _ in rows)} of {len(rows)} are not as they must be")


if __name__ == "__main__":
    main()
