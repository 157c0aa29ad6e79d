"""Extraction: which text of a completion is the program."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluator.judging.extract import extract_code

MAIN = "#include <cstdio>\nint main() { return 0; }\n"


@pytest.mark.parametrize(
    "tag",
    ["cpp", "c++", "C++", "c", "C", "cc", "cxx", "CPP", "cpp linenums"]
    + ["cpp11", "cpp17", "cpp20", "c++20", "c++23", "c++2a", "gnu++17", "{.cpp}", "cpp,ignore"],
)
def test_tags(tag):
    found = extract_code(f"Here:\n```{tag}\n{MAIN}```\nbye")
    assert (found.code, found.how, found.reason) == (MAIN, "fence", None)


@pytest.mark.parametrize(
    ("text", "code", "how"),
    [
        ("```cpp\nA\n```\n```cpp\nB\n```\n", "B\n", "fence"),
        ("```cpp\nA\n```\n```cpp\nB", "A\n", "fence"),
        ("```cpp\nA\n```\n```\n3 4\n```\n", "A\n", "fence"),
        ("```cpp\nA\n```\n```cpp\n\n```\n", "A\n", "fence"),
        ("```cpp\nA\n```\n```python\nB\n```\n", "A\n", "fence"),
        (f"```\n{MAIN}```\n", MAIN, "fence"),
        ("~~~cpp\nA\n~~~\n", "A\n", "fence"),
        ("````cpp\n```\nA\n````\n", "```\nA\n", "fence"),
        ("  ```cpp\n  A\n  ```\n", "  A\n", "fence"),
        ("```cpp\r\nA\r\n```\r\n", "A\r\n", "fence"),
        ("```cpp\nA", "A", "unfinished_fence"),
        (f"```python\nx\n```\n```cpp\n{MAIN}", MAIN, "unfinished_fence"),
        (f"the code:\n{MAIN}", MAIN, "include"),
        (f"{MAIN}```\nand that is it", MAIN, "include"),
        ("int x;\n  # include <a>\n", "  # include <a>\n", "include"),
        (f"```python\n{MAIN}```\n", MAIN, "include"),
        ("```cpp\nA;\n}```", "A;\n}", "fence"),
        ("```cpp\nA;\n} ```  \nIt adds.\n", "A;\n}", "fence"),
        ("```cpp\nA;```\nor\n```cpp\nB\n```\n", "B\n", "fence"),
        ("````cpp\nA;```\nB;````\n", "A;```\nB;", "fence"),
        ("~~~cpp\nA;```\nB\n~~~\n", "A;```\nB\n", "fence"),
        ("```cpp\n// not in ```\nA\n```\n", "// not in ```\nA\n", "fence"),
        ("#include <a>\nint main() {}```\nIt adds.", "#include <a>\nint main() {}", "include"),
    ],
)
def test_rules(text, code, how):
    found = extract_code(text)
    assert (found.code, found.how) == (code, how)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty_completion"),
        (" \n", "empty_completion"),
        ("I cannot.", "no_code"),
        ("```cpp\n\n```", "no_code"),
        ("```\n1 2\n```", "no_code"),
        ("```python\nprint(1)\n```", "other_language"),
        ("```csharp\nMain();\n```", "other_language"),
        ("```cppreference\nMain();\n```", "other_language"),
    ],
)
def test_no_code(text, reason):
    found = extract_code(text)
    assert (found.code, found.how, found.reason) == (None, "none", reason)


@given(st.text(st.sampled_from("`~\n c+p#include<>x"), max_size=80))
def test_never_fails_and_only_takes_from_the_completion(text):
    found = extract_code(text)
    assert (found.code is None) == (found.how == "none") == (found.reason is not None)
    assert found.code is None or (found.code.strip() and found.code in text)


@given(st.lists(st.sampled_from(["int a;", "", "  x", "\t// 注释", "char c = '`';"]), min_size=1))
def test_a_fenced_program_comes_back_whole(lines):
    code = "".join(f"{line}\n" for line in [*lines, "int main() {}"])
    assert extract_code(f"text\n\n```cpp\n{code}```\n\nmore").code == code
