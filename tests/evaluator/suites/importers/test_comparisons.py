"""What statements say about right outputs, in the words in which they say it."""

import time

import pytest

from evaluator.suites.importers.comparisons import asked_comparison
from evaluator.suites.importers.draft import Reason
from evaluator.suites.problem import Checker, TestCase

WORDS, NUMBERS = [TestCase("1", "1", "Yes\n")], [TestCase("1", "1", "0.5\n")]

EITHER = [
    ("Your answer is accepted if its absolute or relative error does not exceed 1e-6.", 1e-6),
    ("The checker allows it if the absolute/relative error doesn’t exceed $10^{ - 6}$.", 1e-6),
    ("Your output is correct when the absolute or relative error is at most 10^{-9}.", 1e-9),
    ("Print a number. An error of at most 10<sup>&minus;6</sup> is allowed.", 1e-6),
    (
        "Print any number of digits after the point.\nHowever, the error must not\nexceed 1.0e-8.",
        1e-8,
    ),
    ("Your answer should be within 10^-2 of the correct answer.", 1e-2),
    ("Print the answer with a precision of at least 10⁻⁵.", 1e-5),
    ("Your answer must not differ from the jury's by more than 5\\cdot10^{-7}.", 5e-7),
    (r"Let the jury's answer be $b$: $\frac{|a - b|}{\max{(1, |b|)}} \le 10^{-6}$.", 1e-6),
    ("输出一个实数，答案误差不超过 1e-6", 1e-6),
    ("绝对误差或相对误差不超过 $10^{-6}$ 即可。", 1e-6),
    ("你的答案与标准答案的误差在 **0.001** 以内即可。", 1e-3),
    ("允许 1e-6 的误差。输出一个数。", 1e-6),
    ("本题采用 Special Judge，与标准答案误差不超过 $10^{-5}$ 即可。", 1e-5),
    ("要求输出的精度误差小于 10的-6次方。", 1e-6),
]
ONE_KIND = [
    ("The answer is correct if its absolute error is at most 10^{-4}.", 1e-4, "absolute"),
    ("输出答案，绝对误差不超过 $0.001$ 视为正确。", 1e-3, "absolute"),
    ("Accepted if |a-b| ≤ 10^{-6}, where b is the jury's answer.", 1e-6, "absolute"),
    ("与标准答案的差的绝对值不超过 0.001 即正确。", 1e-3, "absolute"),
]


@pytest.mark.parametrize(("text", "tolerance"), EITHER)
def test_an_error_that_a_statement_allows_is_used(text, tolerance):
    assert asked_comparison(text, NUMBERS) == Checker("float", tolerance)


@pytest.mark.parametrize(("text", "tolerance", "error"), ONE_KIND)
def test_absolute_and_relative_errors_are_told_apart(text, tolerance, error):
    assert asked_comparison(text, NUMBERS) == Checker("float", tolerance, error=error)


@pytest.mark.parametrize(
    "text",
    [
        "A small absolute error is allowed in the answer.",
        "答案允许一定的误差。",
        "输出任意多位小数。",
    ]
    + ["Correct if the absolute error is at most 1e-4 or the relative error at most 1e-6."]
    + ["Your answer must have an absolute or relative error of at most 10^6."]
    + ["Your answer may have an absolute error of 1e-4 or a relative one of 1e-6."]
    + ["Print the answer with sufficient precision.", "Print at least 6 digits after the point."]
    + ["至少保留 6 位小数", "输出误差不超过 1% 即可"],
)
def test_an_error_that_is_not_plain_is_listed(text):
    assert isinstance(asked_comparison(text, NUMBERS), Reason)


ANY_CASE = """\
You can print each letter in any case.
You may output each letter in any case (upper or lower). For example, yEs will be recognized.
Print YES or NO (case insensitive).
Print Yes or No. The case of letters isn’t important.
You may output letters in upper or lower case.
输出 YES 或 NO，大小写均可。
如果可以输出 `Yes`，否则输出 `No`。大小写不限。
输出 `Yes` 或 `No`（不区分大小写）。
可以输出任意大小写的 YES 和 NO。
答案大小写不敏感。
You may print YES in any case
输出 YES 或 NO，大小写不限
The checker is case-insensitive
The checker compares words ignoring case.
如果两数相同输出 YES，否则输出 NO，大小写不限。
Output Alice if she wins, otherwise Bob. Letters may be in any case.
Print one line containing "YES" or "NO" in any case.
It has uppercase and lowercase letters. Print YES or NO in any case.
对于每组输入，输出 YES 或 NO，大小写不限
Change a letter in each test case; print YES or NO (letters in any case).""".splitlines()


@pytest.mark.parametrize("text", ANY_CASE)
def test_letters_in_any_case(text):
    assert asked_comparison(text, WORDS) == Checker("caseless")
    assert asked_comparison(text, NUMBERS) is None  # no letters: lines stay lines


CASE_COUNTS = """\
Given a word that consists of English letters in any case, convert it to upper case.
输入一个由大小写任意的英文字母组成的字符串，输出其全部转为大写后的结果。
输入一行字符串，字母大小写不限。将其中小写字母转换为大写并输出。
Case-insensitive: print the words sorted ignoring case.
比较单词时不区分大小写，输出字典序最小的单词（原样输出）。
A word is in any case. Print its first letters.
Given a word with letters in any case, print it reversed.
Print the words of the input, which are in any case.
Print the reversed word. Letters of the word are in any case.
输入单词，大小写均可。输出最长的单词。
输出反转后的单词。单词中字母大小写任意。
Print the most frequent word. Ignore case.
统计单词，不区分大小写，输出出现最多的单词。
You may read letters in any case. Output them in upper case.
Swap the case of each letter. You can print each letter in any case.
将字符串中的大小写互换。输出的字母大小写不限。
输出 YES，大小写不限。再输出其大写形式。""".splitlines()
CASE_COUNTS.append(
    "The first line contains a string of letters in either case."
    " Print it with the case of every letter swapped."
)


@pytest.mark.parametrize("text", CASE_COUNTS)
def test_letters_in_any_case_that_are_not_those_of_the_output(text):
    """Else a program passes that prints what it reads."""
    assert asked_comparison(text, WORDS) is None


def test_an_error_and_any_case_at_once_are_listed():
    text = "Print each letter in any case. Your answer may have an error of at most 1e-6."
    assert isinstance(asked_comparison(text, WORDS), Reason)


SEVERAL = """\
If there are multiple answers, print any of them.
If there are multiple solutions, you may output any.
If there is more than one answer, you are allowed to print any of them.
If there are multiple sequences that fit, any is accepted.
Any valid answer is accepted.
Print the numbers in any order.
Output the edges in arbitrary order.
The order of the output does not matter.
The solution may be not unique. Print it.
输出任意一组解
如有多组解，任意输出一组。
如果存在多个答案，请输出其中任意一个。
若答案不唯一，输出任意一种即可。
输出任意可行的结果。
给出任何一个
只需输出一种可行方案
如果多解，随便输出一个
任意一种即可
若有多个答案，任意一个均视为正确
按任意顺序均可
多解时输出其中一个即可
按任意顺序打印这些点
输出方案，顺序任意
答案不唯一。
给出任意一个整数解，若无解输出 -1
给出任意一个满足条件的整数，若没有，输出 -1
The edges are given in any order, print them in any order.
本题有 SPJ
由于可能有多解，本题采用 $\\text{Special Judge}$。
这是一道非传统题。""".splitlines()


@pytest.mark.parametrize("text", SEVERAL)
def test_one_of_several_outputs_needs_a_special_judge(text):
    found = asked_comparison(text, WORDS)
    assert isinstance(found, Reason) and found.kind == "special-judge"


LINES = """\
任意两个城市之间有路
任意时刻，输出队列长度。
输入的顺序任意，请排序后输出。
若有多解，输出字典序最小的。
若答案不唯一，输出字典序最小的方案。
请输出任意两点间最短路的最大值
结果保留 3 位小数
由于测量误差，读数不准。
统计单词出现的次数并输出。匹配时不区分大小写。
每个测试点 0.5 秒
Don’t output any spaces.
don't print any
If there are multiple answers, print the lexicographically smallest one.
There are many cities and any two of them are connected.
There are multiple test cases; print one line for each.
In one move you can choose any of the n elements.
You may rearrange it in any possible way; print the largest.
Any sequence is good if its sum is 0.
The next line lists the edges in any order.
边以任意顺序给出。
有多组数据，每组数据输出一个整数。
Find pairs with |a-b| ≤ 0.001 and print their number.
The edges are given in any order. Print their number.
In any case, the answer fits in 64 bits.
The string has letters in upper or lower case.
Print the answer rounded to 2 decimal places.
Print 'error' if |b| < 0.001.
The number has at least 2 digits.
interspjacent
给出任意一个整数 n，输出 n 的平方。
任意给出一个正整数，请输出它的位数。
n numbers in arbitrary order are given, print the median.
Numbers are given in any order; print the largest.
The edges are given in any order, print their number.""".splitlines()


@pytest.mark.parametrize("text", LINES)
def test_words_alike(text):
    assert asked_comparison(text, WORDS) is None


@pytest.mark.parametrize("text", ["print any of them", "误差不超过 1e-6 即可", "大小写均可"])
@pytest.mark.parametrize("filler", ["words, ", "字，"])
def test_a_sentence_may_stand_anywhere_in_a_long_text(text, filler):
    for before in (150, 195, 200, 205, 60_000):
        assert asked_comparison(filler * before + text + filler * 1000, WORDS) is not None


@pytest.mark.parametrize(
    "piece",
    ["error 1e-6 ", "输出任意", "print each ", "误差", "a.\n\n", "|a-b|max"]
    + ["大小写均可 转换", "yes in any case convert ", "lower case to ", "给出任意一个数"],
)
def test_a_hostile_statement_takes_little_time(piece):
    start = time.process_time()
    asked_comparison(piece * 200_000, WORDS)
    assert time.process_time() - start < 4
