"""Families with one or two numbers of input."""

from demo.families.core import Family, Text
from demo.families.cpp import say
from demo.families.inputs import ONE, TWO, one, two

K = range(2, 100)

READ = 'int n;\nscanf("%d", &n);\n'
READ2 = 'int a, b;\nscanf("%d %d", &a, &b);\n'
LONG2 = '«L:long long¦int» a, b;\nscanf("«L:%lld %lld¦%d %d»", &a, &b);\n'

FAMILIES = (
    Family(
        "change",
        Text("找零", "Change"),
        Text(
            "一支笔 $k 元，$who 买了 a 支，付了 b 元。求找回多少元。",
            "A pen costs $k coins. $who buys a pens and pays b coins. Find the change.",
        ),
        TWO,
        {"k": K},
        LONG2 + 'printf("«L:%lld¦%d»\\n", «b - a * $k¦a * $k - b¦b - a + $k»);',
        lambda rng, p: (
            a := rng.choice([rng.randint(1, 30), rng.randint(10**8, 10**9)]),
            a * p.k + rng.choice([rng.randint(0, 99), 10**10]),
        ),
        lambda p, d: d[1] - d[0] * p.k,
    ),
    Family(
        "boxes",
        Text("装箱", "Boxes"),
        Text(
            "每箱最多装 $k 个苹果，$who 有 n 个苹果。求最少用几个箱子。",
            "A box holds $k apples. $who has n apples. Find the fewest boxes needed.",
        ),
        ONE,
        {"k": K},
        READ + 'printf("%d\\n", «(n + $k - 1) / $k¦n / $k¦n / $k + 1»);',
        lambda rng, p: rng.choice([rng.randint(1, 9) * p.k, rng.randint(1, 999)]),
        lambda p, n: -(-n // p.k),
    ),
    Family(
        "last-row",
        Text("最后一排", "Last Row"),
        Text(
            "n 名学生排队，每排 $k 人，排满才换下一排。求最后一排有几人。",
            "n pupils stand in rows of $k; only the last row may be shorter. Find its length.",
        ),
        ONE,
        {"k": K},
        READ + 'printf("%d\\n", «(n - 1) % $k + 1¦n % $k¦(n - 1) % $k»);',
        lambda rng, p: rng.choice([rng.randint(1, 9) * p.k, rng.randint(1, 999)]),
        lambda p, n: n % p.k or p.k,
    ),
    Family(
        "clock",
        Text("闹钟", "Alarm"),
        Text(
            "现在是 a 点 b 分，闹钟在 $k 分钟后响。求响铃的时刻。",
            "It is a hours and b minutes. An alarm rings $k minutes later. Find that time.",
        ),
        TWO,
        {"k": range(10, 100)},
        READ2
        + 'int t = a * 60 + b + $k;\nprintf("%d %d\\n", «t / 60 % 24¦t / 60¦a», «t % 60¦b + $k»);',
        lambda rng, p: (rng.choice([23, rng.randint(0, 23)]), rng.randint(0, 59)),
        lambda p, d: list(divmod((d[0] * 60 + d[1] + p.k) % 1440, 60)),
        "two",
    ),
    Family(
        "tiers",
        Text("阶梯水价", "Water Bill"),
        Text(
            "每月前 $k 吨水每吨 $a 元，超出部分每吨 $b 元。$who 用了 n 吨，求水费。",
            "The first $k tons of water cost $a each, the rest $b each. $who used n. "
            "Find the bill.",
        ),
        ONE,
        {"k": range(10, 60), "a": range(2, 5), "b": range(5, 8)},
        READ + "int s = n * $a;\nif (n > $k) s = «$k * $a + (n - $k) * $b¦n * $b¦(n - $k) * $b»;\n"
        'printf("%d\\n", s);',
        one(0, 200),
        lambda p, n: min(n, p.k) * p.a + max(n - p.k, 0) * p.b,
    ),
    Family(
        "speed-camera",
        Text("测速", "Speed Camera"),
        Text(
            "限速 $k，$who 的车速为 n。超过限速输出 YES，否则输出 NO。",
            "The limit is $k and $who drives at n. Say YES if that is over the limit, else NO.",
        ),
        ONE,
        {"k": K},
        READ + say("n «>¦>=¦<» $k"),
        one(0, 150),
        lambda p, n: n > p.k,
        "yesno",
    ),
    Family(
        "fence",
        Text("围栏", "Fence"),
        Text(
            "长 a 宽 b 的长方形菜地，每米围栏 $k 元。求围一圈的费用。",
            "A fence costs $k per metre. Find the price of a fence round an a by b garden.",
        ),
        TWO,
        {"k": K},
        LONG2 + 'printf("«L:%lld¦%d»\\n", «(a + b) * 2 * $k¦(a + b) * $k¦a * b * $k»);',
        two(1, 10**9),
        lambda p, d: 2 * p.k * sum(d),
    ),
    Family(
        "cold-floor",
        Text("冷库楼层", "Cold Floors"),
        Text(
            "温度 n 可以为负，每 $k 度为一档。求 n 除以 $k 向下取整的结果。",
            "The temperature n may be negative. Find n divided by $k, rounded down.",
        ),
        ONE,
        {"k": K},
        READ + "int q = n / $k;\nif («n < 0 && n % $k != 0¦n < 0¦n % $k != 0») q--;\n"
        'printf("%d\\n", q);',
        lambda rng, p: rng.choice([rng.randint(-9, 9) * p.k, rng.randint(-999, 999)]),
        lambda p, n: n // p.k,
    ),
    Family(
        "taxi-distance",
        Text("两站距离", "Two Stops"),
        Text(
            "车站 a 和 b 在一条直线上，每走一站要 $k 分钟。求从 a 到 b 的分钟数。",
            "Stops a and b lie on one line. One stop takes $k minutes. Find the time from a to b.",
        ),
        TWO,
        {"k": K},
        READ2 + 'int d = «a > b ? a - b : b - a¦a - b¦b - a»;\nprintf("%d\\n", d * $k);',
        two(-50, 50),
        lambda p, d: abs(d[0] - d[1]) * p.k,
    ),
    Family(
        "doubling",
        Text("翻倍的金币", "Doubling Coins"),
        Text(
            "$who 有 $k 枚金币，每天翻一倍。求 n 天后有多少枚。",
            "$who has $k coins and doubles them every day. Find how many after n days.",
        ),
        ONE,
        {"k": K},
        READ + "«L:long long¦int» s = $k;\nfor (int i = «0¦1»; i «<¦<=» n; i++) s «*= 2¦+= $k»;\n"
        'printf("«L:%lld¦%d»\\n", s);',
        one(0, 45),
        lambda p, n: p.k << n,
    ),
    Family(
        "multiples-sum",
        Text("倍数和", "Sum of Multiples"),
        Text(
            "求 1 到 n 中所有 $k 的倍数之和。", "Find the sum of all multiples of $k from 1 to n."
        ),
        ONE,
        {"k": K},
        READ + "«L:long long¦int» s = 0;\nfor (int i = $k; i «<=¦<» n; i += «$k¦1») s += «i¦1»;\n"
        'printf("«L:%lld¦%d»\\n", s);',
        lambda rng, p: rng.choice([rng.randint(1, 9) * p.k, 10**6 - rng.randint(0, 99)]),
        lambda p, n: sum(range(p.k, n + 1, p.k)),
    ),
    Family(
        "lift",
        Text("电梯", "Lift"),
        Text(
            "电梯上一层要 $u 秒，下一层要 $d 秒。求从 a 层到 b 层的秒数。",
            "A lift needs $u seconds per floor up and $d per floor down. "
            "Find the time from a to b.",
        ),
        TWO,
        {"u": range(2, 40), "d": range(2, 10)},
        READ2 + 'printf("%d\\n", «b > a¦b < a» ? (b - a) * $u : '
        "«(a - b) * $d¦(a - b) * $u¦(b - a) * $d»);",
        two(1, 40),
        lambda p, d: (d[1] - d[0]) * p.u if d[1] > d[0] else (d[0] - d[1]) * p.d,
        valid=lambda p: p.u != p.d,
    ),
    Family(
        "nearest-multiple",
        Text("凑整", "Rounding"),
        Text(
            "求离 n 最近的 $k 的倍数，一样近时取大的。",
            "Find the multiple of $k nearest to n; of two equally near, the larger.",
        ),
        ONE,
        {"k": range(4, 100)},
        READ + 'printf("%d\\n", «(n + $k / 2) / $k * $k¦n / $k * $k¦(n + $k - 1) / $k * $k»);',
        one(0, 999),
        lambda p, n: min(range(0, n + p.k + 1, p.k), key=lambda m: (abs(m - n), -m)),
    ),
    Family(
        "calendar",
        Text("轮休", "Rest Days"),
        Text(
            "每工作 $k 天休息一天，如此循环。求前 n 天里休息了几天。",
            "After every $k days of work comes one day off. Find the days off in the first n days.",
        ),
        ONE,
        {"k": K},
        READ + 'printf("%d\\n", «n / ($k + 1)¦n / $k¦n / ($k - 1 + 1)»);',
        lambda rng, p: rng.choice([rng.randint(1, 9) * (p.k + 1), rng.randint(1, 999)]),
        lambda p, n: sum(day % (p.k + 1) == 0 for day in range(1, n + 1)),
    ),
)
