"""What a program finds in the sandbox: streams by name, files without one, a bound on both."""

import pytest

from evaluator.config.judge_settings import JudgeSettings
from evaluator.judging.judge import JudgeJob, judge_jobs
from evaluator.suites.problem import Problem, TestCase

HEAD = "#include <cstdio>\n#include <cstdlib>\n#include <fcntl.h>\n#include <unistd.h>\n"
ADD = 'int a, b; scanf("%d%d", &a, &b); printf("%d\\n", a + b);'
WAYS = {
    "stdin": f'freopen("/dev/stdin", "r", stdin); {ADD}',
    "stdin by its number": f'freopen("/dev/fd/0", "r", stdin); {ADD}',
    "stdout": f'freopen("/dev/stdout", "w", stdout); {ADD}',
    "stdout at its end": 'printf("3"); fflush(stdout); fputs("\\n", fopen("/dev/stdout", "a"));',
    "stderr": f'if (fputs("x", fopen("/dev/stderr", "w")) < 0) return 1; {ADD}',
    "a file without a name": f'FILE* f = tmpfile(); if (!f || fputs("3", f) < 0) return 1; {ADD}',
    "the judge's name": f'if (!getenv("ONLINE_JUDGE")) return 1; {ADD}',
    "input that cannot be changed": f"""
        const int in = open("/dev/stdin", O_RDWR);
        if (write(in, "9", 1) == 1 || ftruncate(in, 0) == 0) return 1;
        if (open("/dev/stdin", O_RDWR | O_TRUNC) >= 0) return 1;
        {ADD}""",
}


def judge(rung, body, tests=2):
    cases = tuple(TestCase(str(n), "1 2\n", "3\n") for n in range(tests))
    job = JudgeJob(("k",), Problem("p", "", cases), f"{HEAD}int main() {{ {body} }}\n")
    [(_, verdict)] = judge_jobs([job], JudgeSettings(workers=1), rung)
    return verdict


@pytest.mark.parametrize("way", WAYS)
def test_a_program_finds_what_a_plain_judge_offers(rung, way):
    verdict = judge(rung, WAYS[way])
    assert verdict.verdict == "AC", verdict


def test_the_compiler_has_no_stream_to_include(rung):
    if rung.info.rung == "unsafe":
        pytest.skip("it sees the host's")
    [(_, verdict)] = judge_jobs(
        [JudgeJob(("k",), Problem("p", "", (TestCase("1", "", ""),)), '#include "/dev/stdin"\n')],
        JudgeSettings(),
        rung,
    )
    assert (verdict.verdict, "No such file" in verdict.compile_message) == ("CE", True)
