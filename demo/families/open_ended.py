"""Families whose answers are not unique or not whole: judged specially or by tolerance."""

from itertools import pairwise

from demo.families.core import Family, Text
from demo.families.cpp import each, stored
from demo.families.inputs import INTS, ONE, TWO, ints, one

K = range(2, 100)

#: A special judge is called with the input, the output and the answer; 0 accepts, 1 rejects.
JUDGE = """#include <cstdio>
#include <cstdlib>
int main(int argc, char** argv) {
    if (argc < 4) return 3;
    FILE* in = fopen(argv[1], "r");
    FILE* out = fopen(argv[2], "r");
    FILE* ans = fopen(argv[3], "r");
    if (!in || !out || !ans) return 3;
    long long want;
    if (fscanf(ans, "%lld", &want) != 1) return 3;
    char rest[2];
BODY
}
"""


def judge(body: str) -> str:
    """A checker from the statements between opening the files and the end of main."""
    return JUDGE.replace("BODY", "\n".join("    " + line for line in body.strip().splitlines()))


def read_long(count: int) -> str:
    """Reads the contestant's numbers ``x`` (and ``y``), and nothing after them."""
    names = "xy"[:count]
    return (
        f"long long {', '.join(names)};\n"
        f'if (fscanf(out, "{"%lld " * (count - 1)}%lld", '
        f"{', '.join('&' + n for n in names)}) != {count}) return 1;\n"
        'if (fscanf(out, "%1s", rest) == 1) return 1;\n'
    )


def read_one_or_pair() -> str:
    """Reads x alone where it is -1, else x and y, and nothing after them."""
    return (
        'long long x, y = 0;\nif (fscanf(out, "%lld", &x) != 1) return 1;\n'
        'if (x != -1 && fscanf(out, "%lld", &y) != 1) return 1;\n'
        'if (fscanf(out, "%1s", rest) == 1) return 1;\n'
        "if (want == -1 || x == -1) return want == -1 && x == -1 ? 0 : 1;\n"
    )


FAMILIES = (
    Family(
        "some-multiple",
        Text("任一倍数", "Some Multiple"),
        Text(
            "求 a 到 b（含两端）之间任意一个 $k 的倍数。",
            "Find any multiple of $k between a and b, both included.",
        ),
        TWO,
        {"k": K},
        'int a, b, r = -1;\nscanf("%d %d", &a, &b);\nfor (int i = a; i «<=¦<» b; i++)\n'
        'if (i % $k == 0) r = «i¦$k»;\nprintf("%d\\n", r);',
        lambda rng, p: (lambda m: (m - rng.randint(0, p.k - 1), m + rng.choice([0, -1, 5])))(
            rng.randint(1, 9) * p.k
        ),
        lambda p, d: next((i for i in range(d[0], d[1] + 1) if i % p.k == 0), -1),
        "any",
        checker=judge(
            "long long a, b;\n"
            'if (fscanf(in, "%lld %lld", &a, &b) != 2) return 3;\n'
            + read_long(1)
            + "if (want == -1) return x == -1 ? 0 : 1;\n"
            "return x >= a && x <= b && x % $k == 0 ? 0 : 1;"
        ),
    ),
    Family(
        "some-jump",
        Text("任一跳变", "Some Jump"),
        Text(
            "求任意一个位置 i（2≤i≤n），使第 i 个数比前一个至少大 $k。",
            "Find any position i (2≤i≤n) whose number exceeds the one before it by at least $k.",
        ),
        INTS,
        {"k": K},
        stored(
            "int r = -1;\nfor (int i = «1¦2»; i < n; i++)\n"
            'if (a[i] - a[i - 1] «>=¦>» $k) r = «i + 1¦i»;\nprintf("%d\\n", r);'
        ),
        lambda rng, p: (lambda a: rng.choice([a, [*a, a[-1] + p.k], [a[0], a[0] + p.k, 1]]))(
            ints(1, 99, 5)(rng, p)
        ),
        lambda p, a: next((i for i, (x, y) in enumerate(pairwise(a), 2) if y - x >= p.k), -1),
        "any",
        checker=judge(
            "int n, a[100];\n"
            'if (fscanf(in, "%d", &n) != 1 || n > 100) return 3;\n'
            'for (int i = 0; i < n; i++)\n    if (fscanf(in, "%d", &a[i]) != 1) return 3;\n'
            + read_long(1)
            + "if (want == -1) return x == -1 ? 0 : 1;\n"
            "return x >= 2 && x <= n && a[x - 1] - a[x - 2] >= $k ? 0 : 1;"
        ),
    ),
    Family(
        "split-in-two",
        Text("拆成两数", "Split in Two"),
        Text(
            "把 n 拆成两个都不小于 $k 的整数之和，输出这两个数。",
            "Write n as the sum of two integers of at least $k each and print the two.",
        ),
        ONE,
        {"k": K},
        'int n;\nscanf("%d", &n);\nif (n «<¦<=» 2 * $k) puts("-1");\n'
        'else printf("%d %d\\n", $k, «n - $k¦n¦n - $k - 1»);',
        lambda rng, p: rng.choice([2 * p.k, 2 * p.k - 1, rng.randint(1, 300)]),
        lambda p, n: [p.k, n - p.k] if n >= 2 * p.k else -1,
        "any",
        checker=judge(
            "long long n;\n"
            'if (fscanf(in, "%lld", &n) != 1) return 3;\n'
            + read_one_or_pair()
            + "return x >= $k && y >= $k && x + y == n ? 0 : 1;"
        ),
    ),
    Family(
        "mean-plus",
        Text("平均温度", "Mean Temperature"),
        Text("求 n 天温度的平均值再加 $k。", "Find the mean of n temperatures, plus $k."),
        INTS,
        {"k": K},
        each("int s = 0;", "s += x;", "«(double)s / n¦s / n» + «$k.0¦0.0»", "%.3f"),
        ints(-40, 40),
        lambda p, a: sum(a) / len(a) + p.k,
        "real",
        tolerance=0.01,
    ),
    Family(
        "circle-fence",
        Text("圆形池塘", "Round Pond"),
        Text(
            "圆形池塘半径为 n，每米栏杆 $k 元。求围一圈的费用（圆周率取 3.14159）。",
            "A round pond has radius n; a rail costs $k per metre. Find the price all round it, "
            "with pi as 3.14159.",
        ),
        ONE,
        {"k": K},
        'int n;\nscanf("%d", &n);\nprintf("%.3f\\n", «3.14159¦3» * «2 * n¦n¦n * n» * $k);',
        one(1, 50),
        lambda p, n: 3.14159 * 2 * n * p.k,
        "real",
        tolerance=0.01,
    ),
)
