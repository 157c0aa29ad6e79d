"""Families that read n numbers one after the other."""

from itertools import accumulate, pairwise

from demo.families.core import Family, Text
from demo.families.cpp import each, say
from demo.families.inputs import INTS, ints

K = range(2, 100)


def best_run(flags: list[bool]) -> int:
    """Length of the longest run of true values."""
    return max(accumulate(flags, lambda run, flag: run + 1 if flag else 0, initial=0))


FAMILIES = (
    Family(
        "tall-trees",
        Text("高树", "Tall Trees"),
        Text(
            "$who 量了 n 棵树的高度。求高于 $k 的树有几棵。",
            "$who measured n trees. Count the trees taller than $k.",
        ),
        INTS,
        {"k": K},
        each("int c = 0;", "if (x «>¦>=» $k) c++;", "c"),
        ints(0, 120),
        lambda p, a: sum(x > p.k for x in a),
    ),
    Family(
        "lucky-tickets",
        Text("幸运票", "Lucky Tickets"),
        Text(
            "编号是 $k 的倍数的票是幸运票。求所有幸运票编号之和。",
            "A ticket is lucky if its number is a multiple of $k. Sum the lucky numbers.",
        ),
        INTS,
        {"k": K},
        each("«L:long long¦int» s = 0;", "if (x % $k «==¦!=» 0) s += «x¦1»;", "s", "«L:%lld¦%d»"),
        lambda rng, p: [
            rng.choice([rng.randint(0, 9) * p.k, 10**9 // p.k * p.k, rng.randint(0, 99)])
            for _ in range(rng.randint(1, 6))
        ],
        lambda p, a: sum(x for x in a if x % p.k == 0),
    ),
    Family(
        "warmest",
        Text("最高气温", "Warmest Day"),
        Text(
            "给出 n 天的气温，可以为负。求最高气温加 $k 的结果。",
            "Given the temperatures of n days, maybe negative, find the highest one plus $k.",
        ),
        INTS,
        {"k": K},
        each("int m = «-1000000¦0»;", "if (x «>¦<» m) m = x;", "m + $k"),
        ints(-99, 20),
        lambda p, a: max(a) + p.k,
    ),
    Family(
        "cheapest",
        Text("最便宜", "Cheapest"),
        Text(
            "n 家店的价格已知，运费 $k 元。求最少要花多少元。",
            "n shops name a price; delivery costs $k. Find the least $who has to pay.",
        ),
        INTS,
        {"k": K},
        each("int m = «1000000000¦0¦100»;", "if (x «<¦>» m) m = x;", "m + $k"),
        ints(1, 9999),
        lambda p, a: min(a) + p.k,
    ),
    Family(
        "spread",
        Text("极差", "Spread"),
        Text(
            "求 n 个数中最大值与最小值之差的 $k 倍。",
            "Find $k times the difference of the largest and the smallest of n numbers.",
        ),
        INTS,
        {"k": K},
        each(
            "int lo = «1000000¦0», hi = «-1000000¦0»;",
            "if (x < lo) lo = x;\nif (x > hi) hi = x;",
            "«(hi - lo) * $k¦(lo - hi) * $k»",
        ),
        ints(-99, 99),
        lambda p, a: (max(a) - min(a)) * p.k,
    ),
    Family(
        "warm-spell",
        Text("连续高温", "Warm Spell"),
        Text(
            "给出 n 天的气温。求气温不低于 $k 的最长连续天数。",
            "Given n temperatures, find the longest run of days with at least $k degrees.",
        ),
        INTS,
        {"k": K},
        each(
            "int c = 0, m = 0;", "if (x «>=¦>» $k) c++;\nelse c = «0¦1¦c»;\nif (c > m) m = c;", "m"
        ),
        ints(0, 110, 9),
        lambda p, a: best_run([x >= p.k for x in a]),
    ),
    Family(
        "savings-goal",
        Text("攒钱", "Savings Goal"),
        Text(
            "$who 每天存一笔钱。求总数第一次达到 $k 元是第几天，达不到输出 0。",
            "$who saves daily. Find the first day with a total of at least $k, or 0 if none.",
        ),
        INTS,
        {"k": range(20, 100)},
        each(
            "int s = 0, d = 0;",
            "s += x;\nif (s «>=¦>» $k «&& d == 0¦¦&& d == 1») d = «i + 1¦i»;",
            "d",
        ),
        lambda rng, p: (lambda a: [*a, max(p.k - sum(a), 1)] if rng.random() < 0.5 else a)(
            [rng.randint(1, 30) for _ in range(rng.randint(1, 6))]
        ),
        lambda p, a: next((i for i, s in enumerate(accumulate(a), 1) if s >= p.k), 0),
    ),
    Family(
        "last-seen",
        Text("最后出现", "Last Seen"),
        Text(
            "求数 $k 最后一次出现的位置（从 1 开始），没有则输出 -1。",
            "Find the last position (from 1) of the number $k, or -1 if it is not there.",
        ),
        INTS,
        {"k": K},
        each("int r = «-1¦0»;", "if (x == $k «¦&& r < 0») r = «i + 1¦i»;", "r"),
        lambda rng, p: [
            p.k if rng.random() < 0.4 else rng.randint(1, 99) for _ in range(rng.randint(1, 7))
        ],
        lambda p, a: max((i for i, x in enumerate(a, 1) if x == p.k), default=-1),
    ),
    Family(
        "see-saw",
        Text("加减交替", "Plus and Minus"),
        Text(
            "从加号开始，交替加减这 n 个数，再乘 $k。求结果。",
            "Add and subtract the n numbers in turn, starting with plus. Multiply by $k.",
        ),
        INTS,
        {"k": K},
        each("int s = 0;", "if (i % 2 == «0¦1») s += x;\nelse s «-=¦+=» x;", "s * $k"),
        ints(1, 99),
        lambda p, a: (sum(a[::2]) - sum(a[1::2])) * p.k,
    ),
    Family(
        "mean-above",
        Text("及格平均", "Mean of Passes"),
        Text(
            "求所有不低于 $k 的成绩的平均分（向下取整），没有则输出 0。",
            "Find the mean, rounded down, of all marks of at least $k; 0 if there are none.",
        ),
        INTS,
        {"k": K},
        each("int s = 0, c = 0;", "if (x «>=¦>» $k) {\ns += x;\nc++;\n}", "c ? s / «c¦n» : 0"),
        ints(0, 120),
        lambda p, a: (lambda b: sum(b) // len(b) if b else 0)([x for x in a if x >= p.k]),
    ),
    Family(
        "capped",
        Text("封顶", "Capped"),
        Text(
            "每次打车最多报销 $k 元。给出 n 次车费，求一共报销多少元。",
            "Each ride is refunded up to $k coins. Given n fares, find the total refund.",
        ),
        INTS,
        {"k": K},
        each("int s = 0;", "if (x > $k) «x = $k¦x = 0»;\ns += x;", "s"),
        ints(0, 150),
        lambda p, a: sum(min(x, p.k) for x in a),
    ),
    Family(
        "overdraft",
        Text("余额", "Balance"),
        Text(
            "$who 卡里有 $k 元，依次尝试 n 笔消费，余额不够的一笔会失败。求失败几笔。",
            "$who has $k coins and tries n payments; one that exceeds the balance fails. "
            "Count the failures.",
        ),
        INTS,
        {"k": range(20, 100)},
        each("int s = $k, c = 0;", "if (x «>¦>=» s) c++;\nelse s -= «x¦c»;", "c"),
        lambda rng, p: (lambda a: [*a, max(p.k - sum(a), 1), rng.randint(1, 9)])(
            [rng.randint(1, p.k // 2) for _ in range(rng.randint(1, 3))]
        ),
        lambda p, a: _failures(p.k, a),
    ),
    Family(
        "records",
        Text("新纪录", "New Records"),
        Text(
            "纪录最初是 $k 米，之后有 n 次试跳，超过当前纪录就刷新。求刷新几次。",
            "The record is $k at first. Each of n jumps beyond it sets a new one. "
            "Count the new records.",
        ),
        INTS,
        {"k": K},
        each("int m = $k, c = 0;", "if (x «>¦>=» m) {\n«m = x¦m = $k»;\nc++;\n}", "c"),
        ints(1, 150),
        lambda p, a: sum(y > x for x, y in pairwise(accumulate([p.k, *a], max))),
    ),
    Family(
        "trader",
        Text("低买高卖", "Buy and Sell"),
        Text(
            "已知 n 天的股价，买一次再卖一次要付 $k 元手续费。求最大收益，不赚就输出 0。",
            "Given n daily prices and a fee of $k for one buy and one later sale, "
            "find the best profit, at least 0.",
        ),
        INTS,
        {"k": range(2, 40)},
        each(
            "int lo = «1000000¦0», m = 0;",
            "if (x < lo) lo = x;\nif (x - lo «- $k¦» > m) m = x - lo - $k;",
            "m",
        ),
        ints(1, 150),
        lambda p, a: max([0] + [y - x - p.k for i, x in enumerate(a) for y in a[i:]]),
    ),
    Family(
        "product-mod",
        Text("乘积取模", "Product Modulo"),
        Text(
            "求 n 个数的乘积除以 $k 的余数。",
            "Find the remainder of the product of n numbers divided by $k.",
        ),
        INTS,
        {"k": range(3, 100)},
        each("«L:long long¦int» s = «1¦0»;", "s = s * x «% $k¦»;", "s % $k", "«L:%lld¦%d»"),
        ints(1, 10**9, 6),
        lambda p, a: _product_mod(a, p.k),
    ),
    Family(
        "squares",
        Text("平方和", "Sum of Squares"),
        Text(
            "求 n 个数的平方和，再减去 $k。", "Find the sum of the squares of n numbers, minus $k."
        ),
        INTS,
        {"k": K},
        each(
            "«L:long long¦int» s = 0;", "s += «(long long)x * x¦x * x¦x»;", "s - $k", "«L:%lld¦%d»"
        ),
        ints(-70000, 70000, 6),
        lambda p, a: sum(x * x for x in a) - p.k,
    ),
    Family(
        "all-tall",
        Text("身高要求", "Tall Enough"),
        Text(
            "n 个孩子都不矮于 $k 时才能一起上船。能上船输出 YES，否则输出 NO。",
            "n children may board if all are at least $k tall. Say YES if they may, else NO.",
        ),
        INTS,
        {"k": K},
        each("int c = 0;", "if (x «<¦<=» $k) c++;", "c").rsplit("printf", 1)[0]
        + say("c «==¦!=» 0"),
        ints(2, 150, 4),
        lambda p, a: all(x >= p.k for x in a),
        "yesno",
    ),
    Family(
        "work-queue",
        Text("排队", "The Queue"),
        Text(
            "n 位顾客按时间先后到来，每位要服务 $k 分钟，逐个进行。求最后一位何时结束。",
            "n customers come in order of time; each takes $k minutes, one after the other. "
            "Find when the last one is done.",
        ),
        INTS,
        {"k": K},
        each("int t = 0;", "if (x > t) t = «x¦t»;\nt += «$k¦x + $k»;", "t"),
        lambda rng, p: sorted(rng.randint(0, 300) for _ in range(rng.randint(1, 6))),
        lambda p, a: max(x + p.k * (len(a) - i) for i, x in enumerate(a)),
    ),
)


def _failures(balance: int, payments: list[int]) -> int:
    failed = 0
    for x in payments:
        failed, balance = (failed + 1, balance) if x > balance else (failed, balance - x)
    return failed


def _product_mod(numbers: list[int], modulus: int) -> int:
    product = 1
    for x in numbers:
        product *= x
    return product % modulus
