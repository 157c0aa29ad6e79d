"""Families on digits, divisors, remainders and powers."""

from math import gcd, isqrt, lcm

from demo.families.core import Family, Text
from demo.families.cpp import say
from demo.families.inputs import ONE, TWO, one, two

K = range(2, 100)
READ = 'int n;\nscanf("%d", &n);\n'
READ2 = 'int a, b;\nscanf("%d %d", &a, &b);\n'


def is_prime(n: int) -> bool:
    """Primality by trial division."""
    return n > 1 and all(n % d for d in range(2, isqrt(n) + 1))


def digits(n: int, base: int) -> str:
    """``n`` written in ``base``."""
    return (digits(n // base, base) if n >= base else "") + str(n % base)


FAMILIES = (
    Family(
        "digit-sum",
        Text("数字和", "Digit Sum"),
        Text("求 n 的各位数字之和乘 $k。", "Find the sum of the digits of n, times $k."),
        ONE,
        {"k": K},
        READ + "int s = 0;\nwhile (n > «0¦9») {\ns += n % 10;\nn /= 10;\n}\n"
        'printf("%d\\n", s «* $k¦+ $k»);',
        one(0, 10**9),
        lambda p, n: sum(map(int, str(n))) * p.k,
    ),
    Family(
        "door-numbers",
        Text("门牌", "Door Numbers"),
        Text(
            "门牌上每个数字 $d 要花 $k 元，其余数字免费。求门牌 n 的费用。",
            "On a door plate each digit $d costs $k, all others are free. Find the price of n.",
        ),
        ONE,
        {"d": range(1, 9), "k": range(2, 50)},
        READ + "int c = 0;\nwhile (n > «0¦9») {\nif (n % 10 «==¦>=» $d) c++;\nn /= 10;\n}\n"
        'printf("%d\\n", c * $k);',
        lambda rng, p: int(
            "".join(
                rng.choice([str(p.d), "1", "9", str(rng.randint(1, 9))])
                for _ in range(rng.randint(1, 8))
            )
        ),
        lambda p, n: str(n).count(str(p.d)) * p.k,
    ),
    Family(
        "big-divisors",
        Text("大约数", "Large Divisors"),
        Text("求 n 有多少个大于 $k 的约数。", "Count the divisors of n that are greater than $k."),
        ONE,
        {"k": K},
        READ + "int c = 0;\nfor (int i = «$k + 1¦$k¦$k + 2»; i «<=¦<» n; i++)\n"
        'if (n % i == 0) c++;\nprintf("%d\\n", c);',
        lambda rng, p: rng.choice([rng.randint(1, 9) * p.k, (p.k + 1) * rng.randint(1, 9)]),
        lambda p, n: sum(n % i == 0 for i in range(p.k + 1, n + 1)),
    ),
    Family(
        "tiling",
        Text("铺地砖", "Tiling"),
        Text(
            "用尽量大的正方形砖铺满 a 乘 b 的地面，每块 $k 元。求总价。",
            "An a by b floor is tiled with the largest square tiles that fit, at $k each. "
            "Find the price.",
        ),
        TWO,
        {"k": K},
        READ2 + "int x = a, y = b;\nwhile (y) {\nint t = x % y;\nx = y;\ny = t;\n}\n"
        'printf("%d\\n", «a / x * (b / x) * $k¦a * b / x * $k¦x * $k¦a * b * $k»);',
        lambda rng, p: (lambda g: (g * rng.randint(1, 12), g * rng.randint(1, 12)))(
            rng.randint(2, 9)
        ),
        lambda p, d: d[0] * d[1] // gcd(*d) ** 2 * p.k,
    ),
    Family(
        "two-buses",
        Text("同时发车", "Two Buses"),
        Text(
            "两路车分别每 a 和 b 分钟发一班，第 0 分钟同时发车。"
            "求前 $k 小时内（含两端）同时发车几次。",
            "Two buses leave every a and b minutes and both at minute 0. Count how often both "
            "leave together in $k hours, both ends included.",
        ),
        TWO,
        {"k": range(2, 30)},
        READ2 + "int x = a, y = b;\nwhile (y) {\nint t = x % y;\nx = y;\ny = t;\n}\n"
        'printf("%d\\n", $k * 60 / («a / x * b¦a * b¦x») «+ 1¦»);',
        two(2, 40),
        lambda p, d: p.k * 60 // lcm(*d) + 1,
    ),
    Family(
        "shifted-prime",
        Text("平移素数", "Shifted Prime"),
        Text(
            "判断 n 加 $k 是不是素数，是输出 YES，否则输出 NO。",
            "Say YES if n plus $k is a prime number, else NO.",
        ),
        ONE,
        {"k": range(2, 60)},
        READ + "int m = n + $k, ok = m > 1;\nfor (int i = 2; i * i «<=¦<» m; i++)\n"
        "if (m % i == 0) ok = «0¦1»;\n" + say("ok"),
        lambda rng, p: rng.choice([25, 49, 121, 169, 9, rng.randint(60, 400)]) - p.k,
        lambda p, n: is_prime(n + p.k),
        "yesno",
    ),
    Family(
        "primes-between",
        Text("素数计数", "Counting Primes"),
        Text(
            "求大于 $k 且不超过 n 的素数个数。",
            "Count the primes greater than $k and not greater than n.",
        ),
        ONE,
        {"k": K},
        READ + "int c = 0;\nfor (int i = «$k + 1¦$k»; i «<=¦<» n; i++) {\nint ok = 1;\n"
        "for (int j = 2; j * j «<=¦<» i; j++)\nif (i % j == 0) ok = 0;\nc += ok;\n}\n"
        'printf("%d\\n", c);',
        lambda rng, p: p.k + rng.randint(0, 80),
        lambda p, n: sum(map(is_prime, range(p.k + 1, n + 1))),
        valid=lambda p: is_prime(p.k),
    ),
    Family(
        "square-side",
        Text("正方形", "Square Garden"),
        Text(
            "每平方米草皮 $k 元，$who 有 n 元。求能铺的最大正方形边长（整数）。",
            "Turf costs $k per square metre. With n coins, find the largest whole side of a "
            "square lawn.",
        ),
        ONE,
        {"k": K},
        READ + "int x = 0;\nwhile («(x + 1) * (x + 1)¦x * x» * $k «<=¦<» n) x++;\n"
        'printf("%d\\n", x);',
        lambda rng, p: rng.randint(0, 12) ** 2 * p.k + rng.choice([0, 0, 1, 5]),
        lambda p, n: isqrt(n // p.k),
    ),
    Family(
        "base-write",
        Text("进制", "Number Base"),
        Text("把 n 加 $j 的和写成 $k 进制。", "Write the sum of n and $j in base $k."),
        ONE,
        {"k": range(2, 10), "j": range(2, 30)},
        READ
        + "n += $j;\nint d[40], c = 0;\nwhile (n > «0¦$k») {\nd[c++] = n % «$k¦10»;\nn /= $k;\n}\n"
        'while (c > «0¦1») printf("%d", d[--c]);\nputs("");',
        lambda rng, p: rng.randint(0, 9) * p.k if rng.random() < 0.5 else rng.randint(0, 999),
        lambda p, n: digits(n + p.j, p.k),
        "word",
    ),
    Family(
        "halving",
        Text("减半游戏", "Halving Game"),
        Text(
            "每步：n 为偶数时减半，为奇数时加 $k。求 n 变得不大于 $k 要几步。",
            "In a step an even n is halved and an odd n grows by $k. Count the steps until n "
            "is at most $k.",
        ),
        ONE,
        {"k": range(3, 100, 2)},
        READ + "int c = 0;\nwhile (n «>¦>=» $k) {\nif (n % 2 == 0) n /= 2;\n"
        "else n += $k;\nc «+= 1¦+= n % 2»;\n}\n"
        'printf("%d\\n", c);',
        lambda rng, p: rng.choice([p.k * 2 + 2, p.k - 1, rng.randint(1, 999), p.k * 4]),
        lambda p, n: _halving(n, p.k),
    ),
    Family(
        "rabbits",
        Text("兔子", "Rabbits"),
        Text(
            "数列前两项都是 1，以后每项是前两项之和。求第 n 项除以 $k 的余数。",
            "A sequence starts 1, 1; each later term is the sum of the two before it. "
            "Find term n modulo $k.",
        ),
        ONE,
        {"k": K},
        READ + "int a = «1¦0», b = 1;\nfor (int i = «1¦0¦2»; i < n; i++) {\nint t = (a + b) % $k;\n"
        'a = b;\nb = t;\n}\nprintf("%d\\n", a % $k);',
        one(1, 99),
        lambda p, n: _fibonacci(n) % p.k,
    ),
    Family(
        "power-mod",
        Text("幂取模", "Power Modulo"),
        Text("求 a 的 b 次方除以 $k 的余数。", "Find a to the power b, modulo $k."),
        TWO,
        {"k": range(3, 100)},
        READ2 + "«L:long long¦int» s = «1¦a»;\nfor (int i = 0; i «<¦<=» b; i++) s = s * a % $k;\n"
        'printf("%d\\n", (int)s);',
        two(2, 10**9, 0, 40),
        lambda p, d: pow(d[0], d[1], p.k),
    ),
    Family(
        "mirror-number",
        Text("倒写", "Mirror Number"),
        Text(
            "把 n 的数字倒过来写（去掉前导零），再加 $k。求结果。",
            "Write the digits of n in reverse order, drop leading zeros, and add $k.",
        ),
        ONE,
        {"k": K},
        READ + "int r = 0;\nwhile (n > «0¦9») {\nr = «r * 10 + n % 10¦r + n % 10»;\nn /= 10;\n}\n"
        'printf("%d\\n", r + $k);',
        one(1, 99999),
        lambda p, n: int(str(n)[::-1]) + p.k,
    ),
    Family(
        "how-often-divides",
        Text("除几次", "Dividing Again"),
        Text(
            "求 n 最多能被 $k 连续整除几次。",
            "Find how many times n can be divided by $k without a remainder.",
        ),
        ONE,
        {"k": range(2, 60)},
        READ + "int c = 0;\n«while¦if» (n % $k == 0«¦ && n > $k») {\nn /= $k;\nc++;\n}\n"
        'printf("%d\\n", c);',
        lambda rng, p: p.k ** rng.randint(0, 4) * rng.choice([1, 1, rng.randint(1, 9)]),
        lambda p, n: max(e for e in range(32) if n % p.k**e == 0),
    ),
    Family(
        "rich-number",
        Text("富余数", "Rich Numbers"),
        Text(
            "n 的真约数（小于 n）之和不小于 n 减 $k 时输出 YES，否则输出 NO。",
            "Say YES if the divisors of n below n add up to at least n minus $k, else NO.",
        ),
        ONE,
        {"k": range(2, 40)},
        READ
        + "int s = 0;\nfor (int i = 1; i «<¦<=» n; i++)\nif (n % i == 0) s += i;\n"
        + say("s «>=¦>¦<» n - $k"),
        lambda rng, p: rng.choice([p.k + 1, 6, 12, 28, rng.randint(2, 200), _short_by(p.k)]),
        lambda p, n: sum(i for i in range(1, n) if n % i == 0) >= n - p.k,
        "yesno",
        valid=lambda p: _short_by(p.k) > 2,
    ),
    Family(
        "binary-ones",
        Text("二进制", "Binary Ones"),
        Text(
            "求 n 的二进制表示中 1 的个数乘 $k。",
            "Find the number of ones in the binary form of n, times $k.",
        ),
        ONE,
        {"k": K},
        READ + "int c = 0;\nwhile (n > «0¦1») {\nc += n % 2;\nn /= «2¦10»;\n}\n"
        'printf("%d\\n", c * $k);',
        one(0, 10**6),
        lambda p, n: n.bit_count() * p.k,
    ),
    Family(
        "last-standing",
        Text("围圈报数", "Counting Out"),
        Text(
            "n 人围成一圈，从 1 号起报数，报到 $k 的人离开，如此继续。求最后留下的人的编号。",
            "n people in a circle count from person 1; each $k-th leaves. Find who remains.",
        ),
        ONE,
        {"k": K},
        READ + "int r = 0;\nfor (int i = 2; i «<=¦<» n; i++) r = (r + $k) % i;\n"
        'printf("%d\\n", r «+ 1¦»);',
        one(1, 60),
        lambda p, n: _josephus(n, p.k),
    ),
)


def _halving(n: int, k: int) -> int:
    steps = 0
    while n > k:
        n, steps = (n + k if n % 2 else n // 2), steps + 1
    return steps


def _fibonacci(n: int) -> int:
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a


def _short_by(k: int) -> int:
    """A number whose proper divisors add up to exactly ``k`` less than it, or 2."""
    return next((n for n in range(2, 300) if sum(i for i in range(1, n) if n % i == 0) == n - k), 2)


def _josephus(n: int, k: int) -> int:
    circle, at = list(range(1, n + 1)), 0
    while len(circle) > 1:
        at = (at + k - 1) % len(circle)
        circle.pop(at)
    return circle[0]
