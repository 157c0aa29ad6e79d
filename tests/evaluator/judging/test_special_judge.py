"""Special judges, by testlib's exit codes."""

from dataclasses import replace

import pytest

from evaluator.config.judge_settings import JudgeSettings
from evaluator.judging.judge import JudgeJob, judge_jobs
from evaluator.judging.shared_machine import SharedMachine
from evaluator.judging.special_judge import SpecialJudges
from evaluator.suites.problem import Checker, Problem, TestCase

PRINT = '#include <cstdio>\nint main() {{ puts("{}"); }}\n'


def judge(sandbox, checker, *outputs, settings=None, program=PRINT, **limits):
    test = TestCase("1", "in 7\n", "answer 7\n", score=10)
    problem = Problem("p", "", (test,), checker=Checker("special", source=checker), **limits)
    jobs = [JudgeJob((o,), problem, program.format(o)) for o in outputs]
    verdicts = dict(judge_jobs(jobs, settings or JudgeSettings(), sandbox))
    return [verdicts[(o,)] for o in outputs]


def test_the_checker_gets_input_output_and_answer(sandbox):
    """After the program exited as it should, and with its own ``freopen`` whatever is removed."""
    checker = """
    #include <cstdio>
    #include <fstream>
    #include <string>
    std::string all(const char* f) {
        std::ifstream s(f);
        return {std::istreambuf_iterator<char>(s), {}};
    }
    int main(int argc, char** argv) {
        freopen(argv[2], "r", stdin);
        return !(argc == 4 && all(argv[1]) == "in 7\\n" && all(argv[2]) == "mine\\n" &&
                 all(argv[3]) == "answer 7\\n" && getchar() == 'm');
    }"""
    settings = JudgeSettings(strip_freopen=True)
    found = judge(sandbox, checker, "mine", "yours", settings=settings)
    assert [v.verdict for v in found] == ["AC", "WA"]
    exits = '#include <cstdio>\nint main() {{ puts("{}"); return 1; }}'
    assert judge(sandbox, checker, "mine", program=exits)[0].verdict == "RE"


@pytest.mark.parametrize(
    ("checker", "detail"),
    [
        ("int main() { return *(volatile int*)8; }", "ended by SIGSEGV"),
        ("not C++", "does not compile"),
        ('#include <cstdio>\nint main() { puts("no points"); return 7; }', "exit code 7"),
    ],
)
def test_checker_that_fails_is_never_the_program_s_fault(sandbox, checker, detail):
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
    (7, "points 1.0 all right", "AC", 100),
    (7, "points 40", "PC", 40),
    (7, "points 0.5 of 1 points 0.9", "PC", 50),
    (7, "points .25", "PC", 25),
    (7, "points 0.5.", "PC", 50),
    (7, "points 1.2.3", "UKE", 0),
    (7, "points -5 minus", "PC", 0),
    (7, "points 1e-9", "PC", 1e-7),
    (7, "points 2.5E+1", "PC", 25),
    (7, "points 1e400", "AC", 100),
    (7, "points 250", "AC", 100),
    (7, "0.125 by hand", "PC", 12.5),
    (50, "partially correct (50) half", "PC", 50),
    (0, "partially correct (0) none", "PC", 0),
    (7, "partially correct (7)", "PC", 7),
    (100, "partially correct (100)", "AC", 100),
    (4, "wrong output format Extra information in the output file", "WA", 0),
    (0, "ok points 0.5", "AC", 100),
    (7, "points nan", "UKE", 0),
    (7, "points 0,5", "UKE", 0),
    (7, "points points_info=half", "UKE", 0),
    (0, "said 0", "AC", 100),
    (1, "said 1", "WA", 0),
    (8, "said 8", "WA", 0),
    (3, "FAIL points 1", "UKE", 0),
    (7, "lost 3 points 80 of them late", "UKE", 0),
    (7, "no points 1 for test 2", "UKE", 0),
]


def test_what_testlib_prints_is_read_as_it_means(sandbox):
    verdicts = judge(sandbox, ECHO, *(f"{code}\\n{message}" for code, message, _, _ in SAID))
    found = [(v.verdict, pytest.approx(v.score, rel=1e-6)) for v in verdicts]
    assert found == [(verdict, score) for _, _, verdict, score in SAID]


def test_checker_has_its_own_standard_and_flags(sandbox):
    """Names that C++17 took, and features that it brought."""
    old = "#include <vector>\nusing namespace std;\nint size;\nint main() { return size; }"
    new = "#include <optional>\nint main() { return std::optional<int>(0).value(); }"
    flags = "#if defined NO || !defined YES\n#error\n#endif\nint main() {}"
    unlinked = 'extern "C" void no();\nint main(int n, char**) { if (n > 9) no(); }'
    own = {"compile_flags": ("-DNO",), "checker_flags": ("-DYES",)}
    own["link_flags"] = ("-lm", "-Wl,--defsym=no=0")
    for checker, fields, verdict in (
        *((old, {"standard": standard}, "AC") for standard in ("c++98", "c++20")),
        *((new, {"standard": standard}, "UKE") for standard in ("c++98", "c++20")),
        (new, {"standard": "c++98", "checker_standard": "c++17"}, "AC"),
        (flags, own, "AC"),
        (unlinked, own, "UKE"),
    ):
        settings = JudgeSettings(**fields)
        assert judge(sandbox, checker, "x", settings=settings)[0].verdict == verdict, fields


def test_testlib_is_put_beside_the_checker(sandbox, tmp_path):
    checker = '#include "testlib.h"\nint main() { return ANSWER; }'
    [verdict] = judge(sandbox, checker, "x")
    assert verdict.verdict == "UKE" and "testlib_path" in verdict.detail
    (tmp_path / "testlib.h").write_text("enum { ANSWER = 0 };\n")
    settings = JudgeSettings(testlib_path=tmp_path / "testlib.h")
    assert judge(sandbox, checker, "x", settings=settings)[0].verdict == "AC"


def test_compilation_of_a_checker_has_its_own_limits(sandbox):
    checker = "#include <regex>\nint main() {}"
    of_solutions = {"compile_cpu_ms": 900, "compile_memory_kib": 80_000, "compile_file_kib": 100}
    for own, verdict in (({}, "AC"), ({"checker_compile_cpu_ms": 1}, "UKE")):
        [found] = judge(sandbox, checker, "x", settings=JudgeSettings(**of_solutions, **own))
        assert found.verdict == verdict, found


def test_check_that_meets_a_limit_is_made_again(sandbox):
    """The machine may have been slow; twice it is the checker's fault."""
    checks = SpecialJudges(JudgeSettings(), SharedMachine())
    with sandbox.worker() as worker:
        checker = checks.compiled(worker, "int main() {}")
        run, late = worker.run, ["wall"]
        worker.run = lambda *given: replace(run(*given), reason=late.pop() if late else "exit")
        assert checks.check(worker, checker, b"", b"", b"").verdict == "AC"
        late += ["wall", "wall"]
        found = checks.check(worker, checker, b"", b"", b"")
    assert (found.verdict, found.detail) == ("UKE", "the checker failed (wall limit): ")


def test_check_has_its_own_limits(sandbox):
    """It takes longer and more memory than the problem allows."""
    checker = """
    #include <ctime>
    static volatile char a[40 << 20];
    int main() { for (auto& c : a) c = 1; while (clock() < CLOCKS_PER_SEC / 4) {} }"""
    tight = {"time_limit_ms": 100, "memory_limit_kib": 16 << 10}
    assert judge(sandbox, checker, "x", **tight)[0].verdict == "AC"
    [verdict] = judge(sandbox, checker, "x", settings=JudgeSettings(checker_cpu_ms=50), **tight)
    assert verdict.verdict == "UKE" and "the checker failed (cpu limit)" in verdict.detail
