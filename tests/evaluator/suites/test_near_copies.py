"""Near copies among statements are found; problems that only look alike are not."""

import json
import random
from itertools import combinations
from pathlib import Path

from evaluator.suites.near_copies import copies_without_family, near_copies
from evaluator.suites.problem import Problem, TestCase

DEMO = Path(__file__).parents[3] / "demo/suite/heldout/problems.jsonl"


def test_other_numbers_spaces_and_case_make_no_other_problem():
    statements = [
        "Read n (1 ≤ n ≤ 100) and print n squared.",
        "Print the longest palindrome of the given word.",
        "read n (1 ≤ n ≤  9999) and print N squared.",
    ]
    assert near_copies(tuple(statements)) == ((0, 2),)


def test_few_or_short_statements_are_no_copies_and_empty_ones_are_one_group():
    for statements in ((), ("",), ("a",), ("Sum two numbers.", "输出两个数的和。")):
        assert near_copies(statements) == ()
    assert near_copies(("", "a problem of its own", "")) == ((0, 2),)


def test_groups_are_those_of_all_pairs():
    """Against every pair compared, over similarities on both sides of the bound."""
    rng = random.Random(1)
    words = [f"{rng.randrange(16**5):05x}".translate(str.maketrans("0123456789", "ghijklmnop"))
             for _ in range(400)]  # fmt: skip
    statements = []
    for _ in range(40):
        text = rng.sample(words, 60)
        for changed in (0, 3, 25):
            statements.append(" ".join(rng.sample(words, changed) + text[changed:]))
    rng.shuffle(statements)

    runs = [{text[k : k + 5] for k in range(len(text) - 4)} for text in statements]
    expected = {
        (a, b)
        for a, b in combinations(range(len(statements)), 2)
        if len(runs[a] & runs[b]) >= 0.7 * len(runs[a] | runs[b])
    }
    assert set(near_copies(tuple(statements))) == expected
    assert len(expected) == 40


def test_variants_of_the_demo_are_found_and_nothing_else():
    rows = [json.loads(line) for line in DEMO.read_text().splitlines()]
    groups = near_copies(tuple(row["statement"] for row in rows))
    assert all(len({rows[k]["family"] for k in group}) == 1 for group in groups)
    assert len(groups) > 80


def test_copies_of_a_family_are_known_already():
    tests = (TestCase("t", "1", "1"),)
    named = {"A": "f", "B": "f", "C": None, "D": None, "E": "g"}
    problems = [Problem(key, "Sum two.", tests, family=name) for key, name in named.items()]
    assert copies_without_family(problems) == (("C", "D"),)
