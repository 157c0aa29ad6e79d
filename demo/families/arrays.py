"""Families that keep n numbers in an array."""

from itertools import combinations, pairwise
from random import Random
from types import SimpleNamespace

from demo.families.core import Family, Text
from demo.families.cpp import stored
from demo.families.inputs import INTS, ints

K = range(2, 100)
LOOP = "for (int i = «0¦1»; i < n; i++) "
FULL = "for (int i = 0; i < n; i++)\n"


def with_pairs(rng: Random, p: SimpleNamespace) -> list[int]:
    """Numbers of which some two add up to a multiple of k."""
    a = [rng.randint(1, 99) for _ in range(rng.randint(1, 5))]
    for _ in range(rng.randint(0, 2)):
        a.append(max(p.k - rng.choice(a), 1))
    return a


FAMILIES = (
    Family(
        "jumps",
        Text("剧烈波动", "Sharp Changes"),
        Text(
            "求相邻两数之差的绝对值大于 $k 的位置有几处。",
            "Count the neighbours in the list that differ by more than $k.",
        ),
        INTS,
        {"k": K},
        stored(
            "int c = 0;\nfor (int i = «1¦2»; i < n; i++) {\nint d = a[i] - a[i - 1];\n"
            'if (d > $k «|| -d > $k¦»«¦|| d == $k») c++;\n}\nprintf("%d\\n", c);'
        ),
        lambda rng, p: (lambda a: [*a, a[-1] + p.k, a[-1]])(
            [rng.randint(0, 150) for _ in range(rng.randint(1, 6))]
        ),
        lambda p, a: sum(abs(x - y) > p.k for x, y in pairwise(a)),
    ),
    Family(
        "pairs-sum",
        Text("凑成一对", "Making Pairs"),
        Text(
            "求有多少对位置 i<j，使两数之和恰好等于 $k。",
            "Count the pairs of positions i<j whose two numbers add up to $k.",
        ),
        INTS,
        {"k": range(10, 100, 2)},
        stored(
            "int c = 0;\n"
            + FULL
            + "for (int j = «i + 1¦i¦0»; j < n; j++)\nif (a[i] + a[j] «==¦>=» $k) c++;\n"
            'printf("%d\\n", c);'
        ),
        lambda rng, p: (lambda a: a + [p.k // 2] * (p.k % 2 == 0))(with_pairs(rng, p)),
        lambda p, a: sum(x + y == p.k for x, y in combinations(a, 2)),
    ),
    Family(
        "pairs-multiple",
        Text("整除对", "Divisible Pairs"),
        Text(
            "求有多少对位置 i<j，使两数之和是 $k 的倍数。",
            "Count the pairs of positions i<j whose sum is a multiple of $k.",
        ),
        INTS,
        {"k": K},
        stored(
            "int c = 0;\n" + FULL + "for (int j = «i + 1¦i¦0»; j < n; j++)\n"
            'if ((a[i] + a[j]) «% $k == 0¦== $k») c++;\nprintf("%d\\n", c);'
        ),
        lambda rng, p: [x * rng.choice([1, 1, p.k]) for x in with_pairs(rng, p)],
        lambda p, a: sum((x + y) % p.k == 0 for x, y in combinations(a, 2)),
    ),
    Family(
        "windows",
        Text("滑动窗口", "Windows"),
        Text(
            "求有多少段连续 $w 个数的和大于 $k。",
            "Count the runs of $w numbers in a row whose sum is greater than $k.",
        ),
        INTS,
        {"w": range(2, 5), "k": range(10, 100)},
        stored(
            "int c = 0;\nfor (int i = 0; «i + $w <= n¦i + $w < n¦i < n - $w»; i++) {\n"
            "int s = 0;\nfor (int j = 0; j < $w; j++) s += a[i + j];\nif (s «>¦>=» $k) c++;\n}\n"
            'printf("%d\\n", c);'
        ),
        lambda rng, p: (lambda a: [*a, max(p.k - sum(a[1 - p.w :]), 1), rng.randint(1, 60)])(
            [rng.randint(1, 2 * p.k // p.w) for _ in range(rng.randint(p.w, 6))]
        ),
        lambda p, a: sum(sum(a[i : i + p.w]) > p.k for i in range(len(a) - p.w + 1)),
    ),
    Family(
        "rotate-list",
        Text("轮转", "Rotation"),
        Text(
            "把 n 个数循环左移 $k 位后输出。",
            "Rotate the n numbers to the left by $k places and print them.",
        ),
        INTS,
        {"k": K},
        stored(
            LOOP + 'printf("%d ", a[«(i + $k) % n¦(i + n - $k % n) % n¦(i + $k + 1) % n»]);'
            '\nputs("");'
        ),
        ints(1, 99),
        lambda p, a: a[p.k % len(a) :] + a[: p.k % len(a)],
        "list",
    ),
    Family(
        "backwards",
        Text("倒序", "Backwards"),
        Text(
            "把 n 个数倒序输出，每个数都加上 $k。",
            "Print the n numbers in reverse order, each increased by $k.",
        ),
        INTS,
        {"k": K},
        stored(
            'for (int i = «n - 1¦n - 2»; i «>=¦>» 0; i--) printf("%d ", a[i] «+ $k¦»);\nputs("");'
        ),
        ints(1, 99),
        lambda p, a: [x + p.k for x in a[::-1]],
        "list",
    ),
    Family(
        "peaks",
        Text("山峰", "Peaks"),
        Text(
            "高于 $k 且比左右两个数都大的数是山峰（首尾不算）。求山峰的个数。",
            "A peak is above $k and larger than both its neighbours (never at an end). "
            "Count the peaks.",
        ),
        INTS,
        {"k": range(2, 60)},
        stored(
            "int c = 0;\nfor (int i = «1¦2»; i < n - 1; i++)\n"
            "if (a[i] > a[i - 1] «&& a[i] > a[i + 1]¦¦|| a[i] > a[i + 1]» && a[i] «>¦>=» $k) c++;\n"
            'printf("%d\\n", c);'
        ),
        lambda rng, p: [rng.choice([1, p.k, rng.randint(1, 99)]) for _ in range(rng.randint(3, 9))],
        lambda p, a: sum(x < y > z and y > p.k for x, y, z in zip(a, a[1:], a[2:], strict=False)),
    ),
    Family(
        "below-mean",
        Text("低于平均", "Below the Mean"),
        Text(
            "求有多少个数加上 $k 之后仍小于这 n 个数的平均数。",
            "Count the numbers that are below the mean of all n even after adding $k.",
        ),
        INTS,
        {"k": range(2, 40)},
        stored(
            "int s = 0, c = 0;\nfor (int i = 0; i < n; i++) s += a[i];\n"
            + LOOP
            + "if («(a[i] + $k) * n < s¦a[i] + $k < s / n¦(a[i] + $k) * n <= s») c++;\n"
            'printf("%d\\n", c);'
        ),
        lambda rng, p: rng.choice([[1, 1 + 2 * p.k], ints(1, 150)(rng, p), [5, 5, 6 + 3 * p.k]]),
        lambda p, a: sum((x + p.k) * len(a) < sum(a) for x in a),
    ),
    Family(
        "distinct-remainders",
        Text("不同余数", "Remainders"),
        Text(
            "求 n 个数除以 $k 有多少种不同的余数。",
            "Count the different remainders of the n numbers divided by $k.",
        ),
        INTS,
        {"k": K},
        'int n, c = 0, u[100] = {0};\nscanf("%d", &n);\nfor (int i = «0¦1»; i < n; i++) {\nint x;\n'
        'scanf("%d", &x);\nif (u[x % $k] == 0) c++;\nu[x % $k] «= 1¦= 0»;\n}\nprintf("%d\\n", c);',
        lambda rng, p: [
            rng.choice([rng.randint(0, 99), p.k * rng.randint(0, 9)])
            for _ in range(rng.randint(1, 7))
        ],
        lambda p, a: len({x % p.k for x in a}),
    ),
    Family(
        "second-best",
        Text("第二名", "Runner-up"),
        Text(
            "n 个成绩（n≥2）从高到低排，求第二名的成绩加 $k。并列也各占一个名次。",
            "Sort n marks (n≥2) from high to low and find the second one plus $k. "
            "Equal marks take a place each.",
        ),
        INTS,
        {"k": K},
        stored(
            "int p = «-1¦a[0]», q = -1;\nfor (int i = 0; i < n; i++) {\n"
            "if (a[i] > p) {\n«q = p¦q = q»;\np = a[i];\n} else if (a[i] > q «¦&& a[i] < p») "
            'q = a[i];\n}\nprintf("%d\\n", q + $k);'
        ),
        lambda rng, p: [rng.randint(1, rng.choice([3, 99])) for _ in range(rng.randint(2, 6))],
        lambda p, a: sorted(a)[-2] + p.k,
    ),
    Family(
        "greedy-budget",
        Text("预算", "Budget"),
        Text(
            "$who 有 $k 元，每件商品最多买一件。求最多能买几件。",
            "$who has $k coins and buys each of the n goods at most once. "
            "Find the most goods that can be bought.",
        ),
        INTS,
        {"k": range(10, 100)},
        stored(
            "int s = $k, c = 0;\nfor (int i = 0; i < n; i++) {\n"
            "for (int j = «i + 1¦n»; j < n; j++)\nif (a[j] < a[i]) swap(a[i], a[j]);\n"
            'if (a[i] «<=¦<» s) {\ns -= a[i];\nc++;\n}\n}\nprintf("%d\\n", c);'
        ),
        lambda rng, p: (lambda a: [*a, max(p.k - sum(a), 1)])(
            [rng.randint(1, p.k) // rng.randint(1, 3) + 1 for _ in range(rng.randint(1, 5))]
        ),
        lambda p, a: max(m for m in range(len(a) + 1) if sum(sorted(a)[:m]) <= p.k),
        headers=("algorithm",),
    ),
    Family(
        "prefix-swap",
        Text("翻转前缀", "Flip the Front"),
        Text(
            "把前 $k 个数倒过来（n 小于 $k 时倒转全部），输出结果。",
            "Reverse the first $k numbers (all of them if n is less than $k) and print the list.",
        ),
        INTS,
        {"k": range(2, 8)},
        stored(
            "int m = «n < $k ? n : $k¦$k < n ? n : $k¦n»;\n"
            "for (int i = 0; i < n; i++) "
            'printf("%d ", i < m ? a[«m - 1 - i¦m - 1 - i > 0 ? m - 2 - i : 0»] : a[i]);'
            '\nputs("");'
        ),
        lambda rng, p: [rng.randint(1, 99) for _ in range(rng.randint(1, 9))],
        lambda p, a: a[: p.k][::-1] + a[p.k :],
        "list",
    ),
)
