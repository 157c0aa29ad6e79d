"""The judging stage of a run: what it writes for each completion."""

from dataclasses import asdict

from evaluator.config.judge_settings import JudgeSettings
from evaluator.judging.stage import judge_all
from evaluator.store.records import GenerationRecord, VerdictRecord, read
from evaluator.store.run_directory import RunDirectory
from evaluator.suites.suite import load_suite

RIGHT = '#include <cstdio>\nint main() { int a; scanf("%d", &a); printf("%d", a + 1); }\n'
WRONG = RIGHT.replace("+", "-")


def test_the_choice_is_kept_of_each_completion_also_where_programs_are_equal(
    sum_suite, tmp_path, sandbox
):
    texts = {
        "only": f"```cpp\n{RIGHT}```\n",
        "last": f"```cpp\n{WRONG}```\n```cpp\n{RIGHT}```\n",
        "after_reasoning": f"<think>```cpp\n{WRONG}```</think>\n```cpp\n{RIGHT}```\n",
    }
    numbered = enumerate(texts.values())
    generations = [GenerationRecord("arm", "S1", n, text, 9, "stop", 1.0) for n, text in numbered]
    directory, suite = RunDirectory(tmp_path), load_suite(sum_suite)
    for _ in range(2):  # the second finds the verdicts of the first
        judge_all(directory, suite, generations, JudgeSettings(), sandbox, lambda *_: None)
    records = read(directory.verdicts, VerdictRecord.from_row).values()
    assert [record.choice for record in records] == list(texts)
    first, *others = records
    assert first.verdict == "AC"
    for other in others:  # judged once: equal to the KiB of memory and the millisecond
        assert asdict(other)["tests"] == asdict(first)["tests"]
