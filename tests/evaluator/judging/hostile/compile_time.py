"""Attacks on the compiler: each is refused with a short message."""

from tests.evaluator.judging.hostile.attack import ANSWER_FILE, Attack

MAIN = "int main() {}\n"


def _refused(name: str, code: str, message: str = "error") -> Attack:
    return Attack(name, code, "CE", detail=message)


def _macro_bomb() -> str:
    lines = ["#define A0 x,x,x,x,x,x,x,x,x,x"]
    lines += [f"#define A{n} " + ",".join([f"A{n - 1}"] * 10) for n in range(1, 10)]
    return "\n".join([*lines, "int x, a[] = {A9};", MAIN])


_TEMPLATE_BOMB = (
    "template <int N, int M> struct F { static const int v = F<N - 1, 2 * M>::v"
    " + F<N - 1, 2 * M + 1>::v; };\n"
    "template <int M> struct F<0, M> { static const int v = M; };\n"
    "int main() { return F<28, 0>::v; }\n"
)
_CONSTEXPR_LOOP = (
    "constexpr long f(long n) { long s = 0; for (long i = 0; i < n; ++i) s += i; return s; }\n"
    "constexpr long v = f(1L << 60);\nint main() { return v; }\n"
)

COMPILE_TIME = (
    *(
        _refused(f"including_dev_{device.replace('/', '_')}", f'#include "/dev/{device}"\n{MAIN}')
        for device in ("random", "urandom", "zero", "stdin", "tty", "fd/0")
    ),
    *(
        _refused(f"including_{path.split('/')[-1]}", f'#include "{path}"\n{MAIN}')
        for path in ("/etc/passwd", "/etc/shadow", "/proc/1/environ")
    ),
    _refused(
        "embedding_a_host_file",
        f'asm(".incbin \\"/etc/passwd\\"");\n{MAIN}',
        "Error: file not found",
    ),
    _refused("including_the_answer", f'#include "{ANSWER_FILE}"\n{MAIN}'),
    _refused("including_itself", f"#include __FILE__\n#include __FILE__\n{MAIN}", "nested"),
    _refused("template_bomb", _TEMPLATE_BOMB, "terminated"),
    # a fast processor runs out of memory before it runs out of time
    _refused("macro_bomb", _macro_bomb(), "error|memory exhausted"),
    _refused("constexpr_loop", _CONSTEXPR_LOOP),
    _refused(
        "gigabyte_of_static_data",
        "int a[1 << 28] = {1};\nint main() { return a[5]; }\n",
        "File size limit",
    ),
    _refused("error_flood", "int main() {\n" + "undeclared();\n" * 50_000 + "}\n", "not declared"),
)
