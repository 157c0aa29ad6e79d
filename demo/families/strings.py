"""Families on words."""

from itertools import groupby
from random import Random
from string import ascii_letters, ascii_lowercase
from types import SimpleNamespace

from demo.families.core import Family, Text
from demo.families.cpp import each_letter, say
from demo.families.inputs import WORD, WORDS, word

K = range(2, 100)
READ = 'char s[105];\nscanf("%s", s);\n'
LETTERS = tuple(ascii_lowercase)


def two_words(rng: Random, p: SimpleNamespace) -> tuple[str, str]:
    """Two words of one length that differ in some places."""
    a = word("abc", 9)(rng, p)
    return a, "".join(c if rng.random() < 0.5 else rng.choice("abd") for c in a)


def brackets(rng: Random, p: SimpleNamespace) -> str:
    """A balanced word of brackets."""
    s = ""
    for _ in range(rng.randint(1, 7)):
        at = rng.randint(0, len(s))
        s = s[:at] + "()" + s[at:]
    return s


FAMILIES = (
    Family(
        "caesar",
        Text("移位密码", "Shift Cipher"),
        Text(
            "把小写单词的每个字母在字母表中后移 $k 位，z 之后回到 a。输出结果。",
            "Shift each lower-case letter $k places forward; after z comes a. Print the word.",
        ),
        WORD,
        {"k": range(1, 26)},
        READ + "for (int i = «0¦1»; s[i]; i++) "
        "s[i] = «(s[i] - 'a' + $k) % 26 + 'a'¦s[i] + $k - 26 * (s[i] > 'z')»;\n"
        "puts(s);",
        word(ascii_lowercase),
        lambda p, s: "".join(LETTERS[(LETTERS.index(c) + p.k) % 26] for c in s),
        "word",
    ),
    Family(
        "letter-price",
        Text("刻字", "Engraving"),
        Text(
            "刻一个字母 $c 要 $k 元，别的字母免费。求刻单词 s 的费用。",
            "Engraving a letter $c costs $k, any other is free. Find the price of s.",
        ),
        WORD,
        {"c": LETTERS, "k": range(2, 30)},
        each_letter("int c = 0;", "if (s[i] «==¦!=» '$c') c += $k;", "c"),
        word(ascii_lowercase),
        lambda p, s: s.count(p.c) * p.k,
    ),
    Family(
        "long-streak",
        Text("连续相同", "Streak"),
        Text(
            "求 s 中最长的连续相同字母段的长度乘 $k。",
            "Find the length of the longest run of equal letters in s, times $k.",
        ),
        WORD,
        {"k": K},
        READ + "int c = 1, m = «1¦0»;\nfor (int i = «1¦2»; s[i]; i++) {\n"
        "if (s[i] == s[i - 1]) c++;\nelse c = «1¦0¦c»;\nif (c > m) m = c;\n}\n"
        'printf("%d\\n", m * $k);',
        word("ab"),
        lambda p, s: max(len(list(g)) for _, g in groupby(s)) * p.k,
    ),
    Family(
        "make-palindrome",
        Text("改成回文", "Make It a Palindrome"),
        Text(
            "改一个字母要 $k 元。求把 s 改成回文的最少费用。",
            "Changing a letter costs $k. Find the least price of making s a palindrome.",
        ),
        WORD,
        {"k": K},
        READ + "int n = strlen(s), c = 0;\nfor (int i = «0¦1»; i < «n / 2¦n¦n / 2 - 1»; i++)\n"
        'if (s[i] != s[n - 1 - i]) c++;\nprintf("%d\\n", c * $k);',
        word("abc"),
        lambda p, s: sum(x != y for x, y in zip(s, s[::-1], strict=True)) // 2 * p.k,
        headers=("cstring",),
    ),
    Family(
        "swap-letters",
        Text("替换", "Replace"),
        Text(
            "把 s 中的每个字母 $c 换成 $d，输出结果。",
            "Replace every letter $c of s by $d and print the word.",
        ),
        WORD,
        {"c": LETTERS, "d": LETTERS},
        READ
        + "for (int i = «0¦1»; s[i]; i++)\nif (s[i] == «'$c'¦'$d'») s[i] = «'$d'¦'$c'»;\nputs(s);",
        lambda rng, p: "".join(
            rng.choice([p.c, p.d, rng.choice(LETTERS)]) for _ in range(rng.randint(2, 9))
        ),
        lambda p, s: s.replace(p.c, p.d),
        "word",
        valid=lambda p: p.c != p.d,
    ),
    Family(
        "every-kth",
        Text("隔位取字", "Every k-th Letter"),
        Text(
            "取 s 的第 $k、2*$k、3*$k…个字母，求其中 $c 的个数。",
            "Take letters number $k, 2*$k, 3*$k... of s and count the $c among them.",
        ),
        WORD,
        {"k": range(2, 5), "c": LETTERS},
        READ + "int n = strlen(s), c = 0;\nfor (int i = «$k - 1¦0¦$k»; i < n; i += $k)\n"
        "if (s[i] «==¦!=» '$c') c++;\nprintf(\"%d\\n\", c);",
        lambda rng, p: "".join(rng.choice([p.c, "a", "b"]) for _ in range(rng.randint(2, 14))),
        lambda p, s: s[p.k - 1 :: p.k].count(p.c),
        headers=("cstring",),
    ),
    Family(
        "vowels",
        Text("元音", "Vowels"),
        Text(
            "元音字母 a e i o u 每个 $k 分，其余字母每个 $j 分。求 s 的总分。",
            "Each vowel a e i o u scores $k, any other letter $j. Find the score of s.",
        ),
        WORD,
        {"k": range(3, 40), "j": (1, 2)},
        each_letter(
            "int c = 0;",
            'if (strchr(«"aeiou"¦"aeio"», s[i])) c += «$k¦$j»;\nelse c += «$j¦$k»;',
            "c",
        ),
        word("abeiouxyz"),
        lambda p, s: sum(p.k if c in "aeiou" else p.j for c in s),
        headers=("cstring",),
    ),
    Family(
        "capitals",
        Text("大写字母", "Capitals"),
        Text(
            "电报中每个大写字母 $k 元，小写字母 1 元。求单词 s 的费用。",
            "A telegram costs $k per capital letter and 1 per small one. Find the price of s.",
        ),
        WORD,
        {"k": K},
        each_letter(
            "int c = 0;", "if (s[i] «>=¦>» 'A' && s[i] «<=¦<» 'Z') c += $k;\nelse c++;", "c"
        ),
        lambda rng, p: word("AZabyz" if rng.random() < 0.5 else ascii_letters)(rng, p),
        lambda p, s: sum(p.k if c.isupper() else 1 for c in s),
    ),
    Family(
        "bracket-depth",
        Text("括号深度", "Bracket Depth"),
        Text(
            "s 是合法的括号串。求最大嵌套深度乘 $k。",
            "s is a balanced word of brackets. Find its greatest depth, times $k.",
        ),
        WORD,
        {"k": K},
        each_letter(
            "int c = 0, m = 0;",
            "if (s[i] == '(') c++;\nelse «c--¦c = 0¦m--»;\nif (c > m) m = c;",
            "m * $k",
        ),
        brackets,
        lambda p, s: max(s[:i].count("(") - s[:i].count(")") for i in range(len(s))) * p.k,
    ),
    Family(
        "digits-in-word",
        Text("夹杂的数字", "Hidden Digits"),
        Text(
            "s 由字母和数字组成。求其中所有数字之和加 $k。",
            "s has letters and digits. Find the sum of its digits plus $k.",
        ),
        WORD,
        {"k": K},
        each_letter("int c = $k;", "if (s[i] >= '0' && s[i] «<=¦<» '9') c += s[i] «- '0'¦»;", "c"),
        word("0189abz"),
        lambda p, s: sum(int(c) for c in s if c.isdigit()) + p.k,
    ),
    Family(
        "remove-doubles",
        Text("去重", "Remove Doubles"),
        Text(
            "每删一个字母花 $k 元。求删到相邻字母都不相同的最少费用。",
            "Deleting a letter costs $k. Find the least price until no two neighbours are equal.",
        ),
        WORD,
        {"k": K},
        READ + "int c = 0;\nfor (int i = «1¦2»; s[i]; i++)\nif (s[i] «==¦!=» s[i - 1]) c++;\n"
        'printf("%d\\n", c * $k);',
        word("ab"),
        lambda p, s: (len(s) - len(list(groupby(s)))) * p.k,
    ),
    Family(
        "close-words",
        Text("相近单词", "Close Words"),
        Text(
            "两个单词不同的位置不超过 $k 处时输出 YES，否则输出 NO。",
            "Say YES if the two words differ in at most $k places, else NO.",
        ),
        WORDS,
        {"k": range(1, 8)},
        'char s[105], t[105];\nscanf("%s %s", s, t);\nint c = 0;\nfor (int i = «0¦1»; s[i]; i++)\n'
        "if (s[i] != t[i]) c++;\n" + say("c «<=¦<¦>» $k"),
        lambda rng, p: (
            (lambda n, c: ("a" * n, "b" * min(c, n) + "a" * (n - min(c, n))))(
                rng.randint(p.k, 9), p.k + rng.randint(-1, 1)
            )
            if rng.random() < 0.5
            else two_words(rng, p)
        ),
        lambda p, d: sum(x != y for x, y in zip(*d, strict=True)) <= p.k,
        "yesno",
    ),
    Family(
        "turn-word",
        Text("转动单词", "Turn the Word"),
        Text("把 s 循环右移 $k 位后输出。", "Rotate s to the right by $k letters and print it."),
        WORD,
        {"k": K},
        READ + "int n = strlen(s);\nfor (int i = «0¦1»; i < n; i++)\n"
        'putchar(s[«(i + n - $k % n) % n¦(i + $k) % n¦(i + n - $k % n + 1) % n»]);\nputs("");',
        word(ascii_lowercase),
        lambda p, s: s[-(p.k % len(s)) :] + s[: -(p.k % len(s))] if p.k % len(s) else s,
        "word",
        headers=("cstring",),
    ),
    Family(
        "small-before",
        Text("靠前的字母", "Early Letters"),
        Text(
            "求 s 中在字母表里排在 $c 之前的字母有几个，乘 $k。",
            "Count the letters of s that come before $c in the alphabet; multiply by $k.",
        ),
        WORD,
        {"c": LETTERS[2:], "k": range(2, 20)},
        each_letter("int c = 0;", "if (s[i] «<¦<=¦>» '$c') c++;", "c * $k"),
        word(ascii_lowercase),
        lambda p, s: sum(x < p.c for x in s) * p.k,
    ),
)
