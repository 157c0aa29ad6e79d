"""What is seen of a program in its text: main(), and calls of freopen, which are taken out."""

import pytest

from evaluator.judging.cpp_text import has_main, strip_freopen


@pytest.mark.parametrize(
    ("call", "left"),
    [
        ('freopen("a.in", "r", stdin)', "stdin"),
        ('freopen("a,(;.in","r" , stdin )', "stdin"),
        ('freopen((name + ".in").c_str(), "r", stdin)', "stdin"),
        (':: freopen ("a\\"", "w", ::stdout)', "::stdout"),
        ("freopen(a, b, c), freopen(d, e, f)", "c, f"),
        ("ifreopen(a, b, c)", "ifreopen(a, b, c)"),
        ("FILE* freopen;", "FILE* freopen;"),
    ],
)
def test_call_of_freopen_becomes_its_stream(call, left):
    assert strip_freopen(f"x = {call};") == f"x = {left};"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("int main() {}", True),
        ("int main() // entry\n{}", True),
        ("int main(/* none */) /* one */ /* two */\n{}", True),
        ("auto main() -> int {}", True),
        ("int main() // {", False),
        ("int main() /* { */;", False),
        ("int main();", False),
    ],
)
def test_main_is_found_behind_comments(code, expected):
    assert has_main(code) is expected
