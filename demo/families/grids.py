"""Families on grids, pairs and small simulations."""

from math import dist
from random import Random
from types import SimpleNamespace

from demo.families.core import Family, Text
from demo.families.cpp import each_cell, each_letter, each_pair, say
from demo.families.inputs import GRID, MAP, PAIRS, WORD, grid, pairs, word

K = range(2, 100)
SIZES = 'int n, m;\nscanf("%d %d", &n, &m);\n'


def board(rng: Random, p: SimpleNamespace) -> list[str]:
    """A map of dots and hashes."""
    m = rng.randint(1, 5)
    return ["".join(rng.choice(".#") for _ in range(m)) for _ in range(rng.randint(1, 4))]


def sides(rows: list[str]) -> int:
    """The length of the outline of all hashes."""
    cells = {(i, j) for i, row in enumerate(rows) for j, c in enumerate(row) if c == "#"}
    return sum(
        (i + a, j + b) not in cells for i, j in cells for a, b in ((0, 1), (1, 0), (0, -1), (-1, 0))
    )


def by_rows(inner: str, out: str, init: str) -> str:
    """Reads a grid row by row into ``s``, the sum of a row."""
    return (
        SIZES + f"{init}\nfor (int i = «0¦1»; i < n; i++) {{\nint s = 0;\n"
        "for (int j = 0; j < m; j++) {\nint x;\n"
        f'scanf("%d", &x);\n{inner}\n}}\n{out}'
    )


FAMILIES = (
    Family(
        "bright-pixels",
        Text("亮点", "Bright Pixels"),
        Text(
            "求 n 行 m 列的图中亮度大于 $k 的点有几个。",
            "Count the pixels of an n by m picture that are brighter than $k.",
        ),
        GRID,
        {"k": K},
        each_cell("int c = 0;", "if (x «>¦>=» $k) c++;", "c"),
        grid(0, 120),
        lambda p, g: sum(x > p.k for row in g for x in row),
    ),
    Family(
        "best-row",
        Text("最好的一行", "Best Row"),
        Text(
            "求各行之和的最大值（数可以为负）加 $k。",
            "Find the greatest sum of a row, plus $k; the numbers may be negative.",
        ),
        GRID,
        {"k": K},
        by_rows(
            "s += x;", 'if (s > b) b = s;\n}\nprintf("%d\\n", b + $k);', "int b = «-1000000¦0»;"
        ),
        grid(-60, 30),
        lambda p, g: max(map(sum, g)) + p.k,
    ),
    Family(
        "dry-rows",
        Text("干旱的行", "Dry Rows"),
        Text(
            "每行是一个地区的雨量。求总雨量小于 $k 的地区有几个。",
            "Each row holds the rain of one region. Count the regions with less than $k in all.",
        ),
        GRID,
        {"k": range(10, 100)},
        by_rows("s += «x¦1»;", 'if (s «<¦<=¦>» $k) c++;\n}\nprintf("%d\\n", c);', "int c = 0;"),
        lambda rng, p: (
            lambda g: [
                [p.k - sum(r[1:]) if p.k > sum(r[1:]) and rng.random() < 0.4 else r[0], *r[1:]]
                for r in g
            ]
        )(grid(0, 40)(rng, p)),
        lambda p, g: sum(sum(row) < p.k for row in g),
    ),
    Family(
        "outline",
        Text("花坛边", "Flower Beds"),
        Text(
            "# 是花坛，边界和与 . 相邻的边都要装栏杆，每条边 $k 元。求总价。",
            "Each side of a # cell that touches a . or the border needs a rail for $k. "
            "Find the total.",
        ),
        MAP,
        {"k": K},
        SIZES + 'char g[20][20];\nfor (int i = 0; i < n; i++) scanf("%s", g[i]);\nint c = 0;\n'
        "for (int i = «0¦1»; i < n; i++)\nfor (int j = 0; j < m; j++)\n"
        "if (g[i][j] == '#') {\nc += «4¦3»;\n"
        "if (i > 0 && g[i - 1][j] == '#') c -= «2¦1»;\n"
        "if (j > 0 && g[i][j - 1] == '#') c -= «2¦1»;\n}\n"
        'printf("%d\\n", c * $k);',
        board,
        lambda p, g: sides(g) * p.k,
    ),
    Family(
        "map-count",
        Text("数树", "Trees on the Map"),
        Text(
            "地图上 # 是树，每棵树产 $k 个果子。求果子总数。",
            "On the map each # is a tree with $k fruits. Find the number of fruits.",
        ),
        MAP,
        {"k": K},
        SIZES + 'int c = 0;\nfor (int i = «0¦1»; i < n; i++) {\nchar s[20];\nscanf("%s", s);\n'
        "for (int j = «0¦1»; j < m; j++)\nif (s[j] «==¦!=» '#') c++;\n}\n"
        'printf("%d\\n", c * $k);',
        board,
        lambda p, g: sum(row.count("#") for row in g) * p.k,
    ),
    Family(
        "diagonal",
        Text("对角线", "Diagonal"),
        Text(
            "求 n 行 n 列（m 等于 n）方阵主对角线之和乘 $k。",
            "Find the sum of the main diagonal of an n by n grid (m equals n), times $k.",
        ),
        GRID,
        {"k": K},
        each_cell("int s = 0;", "if (i «== j¦+ j == n - 1¦<= j») s += x;", "s * $k"),
        grid(1, 99, square=True),
        lambda p, g: sum(g[i][i] for i in range(len(g))) * p.k,
    ),
    Family(
        "border",
        Text("边框", "Frame"),
        Text(
            "求网格最外一圈所有数之和减 $k。",
            "Find the sum of all numbers on the rim of the grid, minus $k.",
        ),
        GRID,
        {"k": K},
        each_cell(
            "int s = 0;",
            "if (i == 0 «||¦&&» j == 0 || i == n - 1 «|| j == m - 1¦») s += x;",
            "s - $k",
        ),
        grid(1, 99),
        lambda p, g: (
            sum(
                x
                for i, row in enumerate(g)
                for j, x in enumerate(row)
                if i in (0, len(g) - 1) or j in (0, len(row) - 1)
            )
            - p.k
        ),
    ),
    Family(
        "robot",
        Text("机器人", "Robot"),
        Text(
            "机器人每条指令走 $k 步：U 上、D 下、L 左、R 右。求终点到起点的横纵距离之和。",
            "Each of the commands U, D, L, R moves a robot $k steps. Find the sum of its "
            "horizontal and vertical distance from the start.",
        ),
        WORD,
        {"k": K},
        each_letter(
            "int x = 0, y = 0;",
            "if (s[i] == 'U') y++;\nif (s[i] == 'D') y--;\n"
            "if (s[i] == 'L') x--;\nif (s[i] == 'R') x++;",
            "«(abs(x) + abs(y)) * $k¦(x + y) * $k¦abs(x + y) * $k»",
        ),
        word("UDLR"),
        lambda p, s: (abs(s.count("U") - s.count("D")) + abs(s.count("L") - s.count("R"))) * p.k,
        headers=("cstdlib",),
    ),
    Family(
        "orders",
        Text("大额订单", "Large Orders"),
        Text(
            "每行是单价和数量。求数量不少于 $k 的订单的总金额。",
            "Each line is a price and a quantity. Find the total of all orders of at least $k.",
        ),
        PAIRS,
        {"k": K},
        each_pair(
            "«L:long long¦int» s = 0;",
            "if (b «>=¦>» $k) s += «(long long)a * b¦a * b¦a»;",
            "s",
            "«L:%lld¦%d»",
        ),
        lambda rng, p: [
            [
                rng.choice([rng.randint(1, 50), rng.randint(10**8, 10**9)]),
                rng.choice([p.k, rng.randint(1, 99)]),
            ]
            for _ in range(rng.randint(1, 4))
        ],
        lambda p, d: sum(a * b for a, b in d if b >= p.k),
    ),
    Family(
        "covering",
        Text("覆盖", "Covering"),
        Text(
            "每行是一个区间的左右端点。求有多少个区间包含点 $k（含端点）。",
            "Each line is an interval. Count the intervals that contain the point $k, ends "
            "included.",
        ),
        PAIRS,
        {"k": K},
        each_pair("int c = 0;", "if (a «<=¦<» $k «&&¦||» b «>=¦>» $k) c++;", "c"),
        pairs(0, 110, ordered=True),
        lambda p, d: sum(a <= p.k <= b for a, b in d),
    ),
    Family(
        "two-exams",
        Text("两门考试", "Two Exams"),
        Text(
            "每行是一人的两门成绩，两门都不低于 $k 才合格。求合格人数。",
            "Each line has the two marks of a person, who passes if both are at least $k. "
            "Count those who pass.",
        ),
        PAIRS,
        {"k": K},
        each_pair("int c = 0;", "if (a «>=¦>» $k «&&¦||» b >= $k) c++;", "c"),
        pairs(0, 110),
        lambda p, d: sum(a >= p.k and b >= p.k for a, b in d),
    ),
    Family(
        "in-range",
        Text("射程", "In Range"),
        Text(
            "每行是一个点的坐标。求到原点距离不超过 $k 的点有几个。",
            "Each line is a point. Count the points within distance $k of the origin.",
        ),
        PAIRS,
        {"k": range(5, 100)},
        each_pair("int c = 0;", "if («a * a + b * b¦a + b» «<=¦<» $k * $k) c++;", "c"),
        lambda rng, p: [
            rng.choice(
                [[0, p.k], [-p.k, 0], [p.k, 1], [rng.randint(-99, 99), rng.randint(-99, 99)]]
            )
            for _ in range(rng.randint(1, 4))
        ],
        lambda p, d: sum(dist((0, 0), row) <= p.k for row in d),
    ),
    Family(
        "score-board",
        Text("比分", "Score Board"),
        Text(
            "每行是主队和客队的进球。主队每胜一场得 $k 分，平局得 1 分。求主队总分。",
            "Each line has the goals of home and guests. The home team gets $k for a win and 1 "
            "for a draw. Find its points.",
        ),
        PAIRS,
        {"k": range(2, 60)},
        each_pair("int s = 0;", "if (a «>¦>=» b) s += $k;\nelse if (a == b) s += «1¦0»;", "s"),
        pairs(0, 3),
        lambda p, d: sum(p.k if a > b else a == b for a, b in d),
    ),
    Family(
        "discount",
        Text("满减", "Discount"),
        Text(
            "每行是两件商品的价格，一单合计达到 $k 元减 $j 元。求所有订单的总价。",
            "Each line has the prices of two goods. An order of at least $k is reduced by $j. "
            "Find the total of all orders.",
        ),
        PAIRS,
        {"k": range(20, 100), "j": range(2, 10)},
        each_pair("int s = 0;", "int t = a + b;\nif (t «>=¦>» $k) t -= «$j¦t - $j»;\ns += t;", "s"),
        lambda rng, p: [
            rng.choice([[p.k - 5, 5], [rng.randint(1, 60), rng.randint(1, 60)]])
            for _ in range(rng.randint(1, 4))
        ],
        lambda p, d: sum(a + b - p.j * (a + b >= p.k) for a, b in d),
    ),
    Family(
        "full-house",
        Text("座位", "Seats"),
        Text(
            "大巴有 $k 个座位，每站先下 a 人再上 b 人。任何时候都坐得下输出 YES，否则输出 NO。",
            "A bus has $k seats. At each stop a people get off, then b get on. Say YES if all "
            "always have a seat, else NO.",
        ),
        PAIRS,
        {"k": range(5, 80)},
        each_pair(
            "int c = 0, ok = 1;", "c += «b - a¦b¦a - b»;\nif (c «>¦>=» $k) ok = 0;", "ok"
        ).rsplit("printf", 1)[0]
        + say("ok"),
        lambda rng, p: _stops(rng, p.k),
        lambda p, d: all(sum(b - a for a, b in d[: i + 1]) <= p.k for i in range(len(d))),
        "yesno",
    ),
)


def _stops(rng: Random, seats: int) -> list[list[int]]:
    """Stops of a bus that is full, nearly full or overfull after the first."""
    inside = seats + rng.choice([-2, 0, 0, 1])
    rows = [[0, inside]]
    for _ in range(rng.randint(0, 2)):
        off = rng.randint(0, inside)
        rows.append([off, rng.randint(0, max(seats - inside + off, 0))])
        inside += rows[-1][1] - off
    return rows
