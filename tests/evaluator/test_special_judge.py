"""Special judges, by testlib's exit codes."""

import pytest

from evaluator.judging.compile_cpp import Compiled, compile_cpp
from evaluator.judging.judge import JudgeJob, judge_jobs
from evaluator.judging.judge_settings import JudgeSettings
from evaluator.suites.problem import Checker, Problem, TestCase

PRINT = '#include <cstdio>\nint main() {{ puts("{}"); }}\n'


def judge(sandbox, checker, *outputs, settings=None):
    test = TestCase("1", "in 7\n", "answer 7\n", score=10)
    problem = Problem("p", "", (test,), checker=Checker("special", source=checker))
    jobs = [JudgeJob((o,), problem, PRINT.format(o)) for o in outputs]
    verdicts = dict(judge_jobs(jobs, settings or JudgeSettings(), sandbox))
    return [verdicts[(o,)] for o in outputs]


def test_exit_codes(sandbox):
    """The checker returns what the program printed as its exit code."""
    checker = """
    #include <cstdio>
    #include <cstdlib>
    int main(int, char** argv) {
        int code;
        fscanf(fopen(argv[2], "r"), "%d", &code);
        fprintf(stderr, code == 7 ? "points 0.25 some" : "said %d", code);
        return code;
    }"""
    verdicts = judge(sandbox, checker, "0", "1", "2", "3", "7", "8", "99")
    assert [v.verdict for v in verdicts] == ["AC", "WA", "WA", "UKE", "PC", "WA", "UKE"]
    assert [v.score for v in verdicts] == [100, 0, 0, 0, 25, 0, 0]
    assert verdicts[1].tests[0].detail == "said 1"


def test_the_checker_gets_input_output_and_answer(sandbox):
    checker = """
    #include <fstream>
    #include <string>
    std::string all(const char* f) {
        std::ifstream s(f);
        return {std::istreambuf_iterator<char>(s), {}};
    }
    int main(int argc, char** argv) {
        return !(argc == 4 && all(argv[1]) == "in 7\\n" && all(argv[2]) == "mine\\n" &&
                 all(argv[3]) == "answer 7\\n");
    }"""
    assert [v.verdict for v in judge(sandbox, checker, "mine", "yours")] == ["AC", "WA"]


@pytest.mark.parametrize(
    ("checker", "detail"),
    [
        ("int main() { return *(volatile int*)8; }", "ended by SIGSEGV"),
        ("not C++", "does not compile"),
        ('#include <cstdio>\nint main() { puts("no points"); return 7; }', "exit code 7"),
    ],
)
def test_a_checker_that_fails_is_never_the_program_s_fault(sandbox, checker, detail):
    [verdict] = judge(sandbox, checker, "x")
    assert verdict.verdict == "UKE" and detail in verdict.detail


@pytest.mark.parametrize(("points", "verdict", "score"), [("1", "AC", 100), ("40", "PC", 40)])
def test_points(sandbox, points, verdict, score):
    checker = f'#include <cstdio>\nint main() {{ fputs("points {points}", stderr); return 7; }}'
    [result] = judge(sandbox, checker, "x")
    assert (result.verdict, result.score) == (verdict, score)


def test_testlib_is_put_beside_the_checker(sandbox, tmp_path):
    checker = '#include "testlib.h"\nint main() { return ANSWER; }'
    [verdict] = judge(sandbox, checker, "x")
    assert verdict.verdict == "UKE" and "testlib_path" in verdict.detail
    (tmp_path / "testlib.h").write_text("enum { ANSWER = 0 };\n")
    settings = JudgeSettings(testlib_path=tmp_path / "testlib.h")
    assert judge(sandbox, checker, "x", settings=settings)[0].verdict == "AC"


def test_a_checker_whose_compiler_was_disturbed_is_compiled_again(sandbox, monkeypatch):
    results = [Compiled(None, "Killed", disturbed=True)]

    def killed_once(*arguments):
        return results.pop() if results else compile_cpp(*arguments)

    monkeypatch.setattr("evaluator.judging.special_judge.compile_cpp", killed_once)
    assert judge(sandbox, "int main() {}", "x")[0].verdict == "AC"
    assert not results


def test_a_wrong_exit_is_found_before_the_checker_is_asked(sandbox):
    problem = Problem(
        "p", "", (TestCase("1", "", ""),), checker=Checker("special", source="int main() {}")
    )
    job = JudgeJob(("a",), problem, "int main() { return 1; }")
    [(_, verdict)] = judge_jobs([job], JudgeSettings(), sandbox)
    assert verdict.verdict == "RE"


def test_freopen_is_removed_from_programs_alone(sandbox):
    checker = """
    #include <cstdio>
    int main(int, char** argv) {
        int code;
        freopen(argv[2], "r", stdin);
        return scanf("%d", &code) == 1 ? code : 3;
    }"""
    settings = JudgeSettings(strip_freopen=True)
    assert judge(sandbox, checker, "0", settings=settings)[0].verdict == "AC"
