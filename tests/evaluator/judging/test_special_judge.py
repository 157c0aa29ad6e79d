"""Special judges, by testlib's exit codes."""

from dataclasses import replace

import pytest

from evaluator.config.judge_settings import JudgeSettings
from evaluator.judging.compile_cpp import Compiled, compile_cpp
from evaluator.judging.judge import JudgeJob, judge_jobs
from evaluator.judging.run_gate import RunGate
from evaluator.judging.sandbox.worker import SandboxWorker
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


# The checker prints what the program printed, which is what testlib prints, and exits as it does.
ECHO = """
#include <cstdio>
#include <cstdlib>
int main(int, char** argv) {
    char line[200];
    FILE* f = fopen(argv[2], "r");
    fgets(line, 200, f);
    const int code = atoi(line);
    fgets(line, 200, f);
    fputs(line, stderr);
    return code;
}"""


SAID = [
    (7, "points 1", "AC", 100),
    (7, "points 1.0 all right", "AC", 100),
    (7, "points 40", "PC", 40),
    (7, "points 0.5", "PC", 50),
    (7, "points 0.5 of 1 points 0.9", "PC", 50),
    (7, "points .25", "PC", 25),
    (7, "points 0.5.", "PC", 50),
    (7, "points 1.2.3", "UKE", 0),
    (7, "points 0.0", "PC", 0),
    (7, "points -5 minus", "PC", 0),
    (7, "points -0.0000000001", "PC", 0),
    (7, "points 0.0000000001", "PC", 1e-8),
    (7, "points 1e-9", "PC", 1e-7),
    (7, "points 2.5E+1", "PC", 25),
    (7, "points 1e400", "AC", 100),
    (7, "points 0.999999", "PC", 99.9999),
    (7, "points 250", "AC", 100),
    (7, "0.125 by hand", "PC", 12.5),
    (7, "-1", "PC", 0),
    (50, "partially correct (50) half", "PC", 50),
    (0, "partially correct (0) none", "PC", 0),
    (1, "partially correct (1)", "PC", 1),
    (7, "partially correct (7)", "PC", 7),
    (100, "partially correct (100)", "AC", 100),
    (66, "partially correct (16) base 50", "PC", 16),
    (4, "wrong output format Extra information in the output file", "WA", 0),
    (0, "ok points 0.5", "AC", 100),
    (7, "points nan", "UKE", 0),
    (7, "points 0,5", "UKE", 0),
    (7, "points 0x1", "UKE", 0),
    (7, "points points_info=half", "UKE", 0),
    (3, "FAIL points 1", "UKE", 0),
    (50, "no word of points", "UKE", 0),
]


def test_what_testlib_prints_is_read_as_it_means(sandbox):
    verdicts = judge(sandbox, ECHO, *(f"{code}\\n{message}" for code, message, _, _ in SAID))
    found = [(v.verdict, pytest.approx(v.score, rel=1e-6)) for v in verdicts]
    assert found == [(verdict, score) for _, _, verdict, score in SAID]


def test_a_checker_has_its_own_standard(sandbox):
    """Names that C++17 took, and features that it brought."""
    old = "#include <vector>\nusing namespace std;\nint size;\nint main() { return size; }"
    new = "#include <optional>\nint main() { return std::optional<int>(0).value(); }"
    for standard in ("c++98", "c++20"):
        settings = JudgeSettings(standard=standard)
        assert judge(sandbox, old, "x", settings=settings)[0].verdict == "AC"
        assert judge(sandbox, new, "x", settings=settings)[0].verdict == "UKE"
        settings = replace(settings, checker_standard="c++17")
        assert judge(sandbox, new, "x", settings=settings)[0].verdict == "AC"
    settings = JudgeSettings(compile_flags=("-DNO",), checker_flags=("-DYES",))
    flags = "#if defined NO || !defined YES\n#error\n#endif\nint main() {}"
    assert judge(sandbox, flags, "x", settings=settings)[0].verdict == "AC"


def test_testlib_is_put_beside_the_checker(sandbox, tmp_path):
    checker = '#include "testlib.h"\nint main() { return ANSWER; }'
    [verdict] = judge(sandbox, checker, "x")
    assert verdict.verdict == "UKE" and "testlib_path" in verdict.detail
    (tmp_path / "testlib.h").write_text("enum { ANSWER = 0 };\n")
    settings = JudgeSettings(testlib_path=tmp_path / "testlib.h")
    assert judge(sandbox, checker, "x", settings=settings)[0].verdict == "AC"


@pytest.fixture
def compilations(monkeypatch):
    """``results`` stand in for the first compilations of a checker; counts them."""

    class Compilations:
        results: list = []
        count = 0

    def compile_or_pretend(*arguments):
        Compilations.count += 1
        return Compilations.results.pop(0) if Compilations.results else compile_cpp(*arguments)

    monkeypatch.setattr("evaluator.judging.special_judge.compile_cpp", compile_or_pretend)
    return Compilations


@pytest.mark.parametrize("field", ["disturbed", "limit_met"])
def test_a_checker_whose_compiler_was_stopped_is_compiled_again_alone(
    sandbox, compilations, monkeypatch, field
):
    ways = []
    real = RunGate.alone
    monkeypatch.setattr(RunGate, "alone", lambda gate: ways.append("alone") or real(gate))
    compilations.results = [Compiled(None, "stopped", **{field: True})]
    assert judge(sandbox, "int main() {}", "x")[0].verdict == "AC"
    assert (compilations.count, ways) == (2, ["alone"])


def test_a_compilation_at_a_limit_is_kept_for_no_other_program(sandbox, compilations):
    compilations.results = [Compiled(None, "stopped", limit_met=True)] * 2
    settings = JudgeSettings(workers=1)
    first, second = judge(sandbox, "int main() {}", "x", "y", settings=settings)
    assert (first.verdict, second.verdict) == ("UKE", "AC") and "stopped" in first.detail
    assert compilations.count == 3


def test_a_checker_with_an_error_is_compiled_once(sandbox, compilations):
    settings = JudgeSettings(workers=1)
    verdicts = judge(sandbox, "not C++", "x", "y", settings=settings)
    assert [v.verdict for v in verdicts] == ["UKE", "UKE"]
    assert compilations.count == 1


def test_a_compilation_of_a_checker_has_its_own_limits(sandbox):
    checker = "#include <regex>\nint main() {}"
    of_solutions = {"compile_cpu_ms": 900, "compile_memory_kib": 80_000, "compile_file_kib": 100}
    for own, verdict in (({}, "AC"), ({"checker_compile_cpu_ms": 1}, "UKE")):
        [found] = judge(sandbox, checker, "x", settings=JudgeSettings(**of_solutions, **own))
        assert found.verdict == verdict, found


def test_no_limit_of_compiling_solutions_holds_for_checkers():
    of_solutions = {
        f"compile_{name}": 1 for name in ("cpu_ms", "wall_ms", "memory_kib", "file_kib")
    }
    found, wanted = JudgeSettings(**of_solutions).of_checkers(), JudgeSettings().of_checkers()
    assert [getattr(found, name) for name in of_solutions] == [
        getattr(wanted, name) for name in of_solutions
    ]
    assert wanted.compile_cpu_ms == 60_000
    assert JudgeSettings(checker_compile_cpu_ms=7).of_checkers().compile_cpu_ms == 7


def test_a_check_that_meets_a_limit_beside_others_is_made_again_alone(sandbox, monkeypatch):
    ways = []
    real_run, real_alone = SandboxWorker.run, RunGate.alone
    monkeypatch.setattr(RunGate, "alone", lambda gate: ways.append("alone") or real_alone(gate))

    def slow_beside_others(self, command, limits):
        report = real_run(self, command, limits)
        late = command.argv[0] == "checker" and not ways
        return replace(report, reason="wall") if late else report

    monkeypatch.setattr(SandboxWorker, "run", slow_beside_others)
    assert judge(sandbox, "int main() {}", "x")[0].verdict == "AC"
    assert ways == ["alone"]


@pytest.mark.parametrize(
    ("limits", "detail"),
    [
        ({}, ""),
        ({"checker_cpu_ms": 50}, "the checker failed (cpu limit)"),
    ],
)
def test_a_check_has_its_own_limits(sandbox, limits, detail):
    """It takes longer and more memory than the problem allows."""
    checker = """
    #include <ctime>
    static volatile char a[40 << 20];
    int main() { for (auto& c : a) c = 1; while (clock() < CLOCKS_PER_SEC / 4) {} }"""
    test = TestCase("1", "", "")
    problem = Problem("p", "", (test,), 100, 16 << 10, Checker("special", source=checker))
    job = JudgeJob(("a",), problem, "int main() {}")
    [(_, verdict)] = judge_jobs([job], JudgeSettings(**limits), sandbox)
    assert verdict.verdict == ("UKE" if detail else "AC") and detail in verdict.detail


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
