"""One attack on the compiler a test: refused with a short message, and nothing left."""

import pytest

from tests.evaluator.hostile.attacks import judge, run


def refuse(rung, code):
    """Judge a source that must not compile; gives the compiler's message."""
    verdict = judge(rung, code)
    assert (verdict.verdict, verdict.tests) == ("CE", ())
    assert len(verdict.compile_message) < 5000
    return verdict.compile_message


@pytest.mark.parametrize("device", ["random", "urandom", "zero", "stdin", "tty", "fd/0"])
def test_including_a_device(rung, device):
    refuse(rung, f'#include "/dev/{device}"\nint main() {{}}\n')


@pytest.mark.parametrize("path", ["/etc/passwd", "/etc/shadow", "/proc/1/environ"])
def test_including_a_host_file(rung, path):
    assert "root" not in refuse(rung, f'#include "{path}"\nint main() {{}}\n')


def test_embedding_a_host_file(rung):
    refuse(rung, 'asm(".incbin \\"/etc/passwd\\"");\nint main() {}\n')


def test_including_the_answer(rung, tmp_path):
    (tmp_path / "1.out").write_text("the answer")
    assert "the answer" not in refuse(rung, f'#include "{tmp_path}/1.out"\nint main() {{}}\n')


def test_including_itself(rung):
    refuse(rung, "#include __FILE__\n#include __FILE__\nint main() {}\n")


def test_template_bomb(rung):
    refuse(
        rung,
        "template <int N, int M> struct F { static const int v = F<N - 1, 2 * M>::v"
        " + F<N - 1, 2 * M + 1>::v; };\n"
        "template <int M> struct F<0, M> { static const int v = M; };\n"
        "int main() { return F<28, 0>::v; }\n",
    )


def test_macro_bomb(rung):
    lines = ["#define A0 x,x,x,x,x,x,x,x,x,x"]
    lines += [f"#define A{n} " + ",".join([f"A{n - 1}"] * 10) for n in range(1, 10)]
    refuse(rung, "\n".join([*lines, "int x, a[] = {A9};", "int main() {}", ""]))


def test_constexpr_loop(rung):
    refuse(
        rung,
        "constexpr long f(long n) { long s = 0; for (long i = 0; i < n; ++i) s += i; return s; }\n"
        "constexpr long v = f(1L << 60);\nint main() { return v; }\n",
    )


def test_gigabyte_of_static_data(rung):
    refuse(rung, "int a[1 << 28] = {1};\nint main() { return a[5]; }\n")


def test_error_flood(rung):
    refuse(rung, "int main() {\n" + "undeclared();\n" * 50_000 + "}\n")


def test_the_judge_still_works(rung):
    assert run(rung, 'puts("ok");').verdict == "AC"
