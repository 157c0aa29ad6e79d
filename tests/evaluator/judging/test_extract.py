"""Extraction: which text of a completion is the program."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluator.judging.extract import extract_code

MAIN = "#include <cstdio>\nint main() { return 0; }\n"


TAGS = ("cpp", "C++", "c", "cc", "cpp linenums", "cpp17", "c++2a", "gnu++17", "{.cpp}")


@pytest.mark.parametrize(
    ("text", "code", "how"),
    [
        *((f"Here:\n```{tag}\n{MAIN}```\nbye", MAIN, "fence") for tag in TAGS),
        ("```cpp\nA\n```\n```cpp\nB\n```\n", "B\n", "fence"),
        ("```cpp\nA\n```\n```cpp\nB", "A\n", "fence"),
        ("```cpp\nA\n```\n```cpp\n\n```\n", "A\n", "fence"),
        (f"```\n{MAIN}```\n", MAIN, "fence"),
        ("~~~cpp\nA\n~~~\n", "A\n", "fence"),
        ("````cpp\n```\nA\n````\n", "```\nA\n", "fence"),
        ("```cpp\r\nA\r\n```\r\n", "A\r\n", "fence"),
        ("```cpp\nA", "A", "unfinished_fence"),
        (f"the code:\n{MAIN}", MAIN, "include"),
        (f"{MAIN}```\nand that is it", MAIN, "include"),
        ("int x;\n  # include <a>\n", "  # include <a>\n", "include"),
        (f"```python\n{MAIN}```\n", MAIN, "include"),
        ("```cpp\nA;\n}```", "A;\n}", "fence"),
        ("```cpp\nA;\n} ```  \nIt adds.\n", "A;\n}", "fence"),
        ("````cpp\nA;```\nB;````\n", "A;```\nB;", "fence"),
        ("```cpp\n// not in ```\nA\n```\n", "// not in ```\nA\n", "fence"),
    ],
)
def test_rules(text, code, how):
    found = extract_code(text)
    assert (found.code, found.how, found.reason) == (code, how, None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty_completion"),
        (" \n", "empty_completion"),
        ("I cannot.", "no_code"),
        ("```cpp\n\n```", "no_code"),
        ("```python\nprint(1)\n```", "other_language"),
        ("```csharp\nMain();\n```", "other_language"),
        ("```java\nclass Main { public static void main(String[] a) {} }\n```", "other_language"),
        ("```\npackage main\nfunc main() {\n}\n```", "no_code"),
        ("Use `#include <cstdio>` and main() {}.", "no_code"),
        ("<think>\nI wonder.\n</think>\nNo idea.<|im_end|>", "no_code"),
    ],
)
def test_no_code(text, reason):
    found = extract_code(text)
    assert (found.code, found.how, found.reason, found.choice) == (None, "none", reason, "only")


PROGRAM = """#include <iostream>
int add(int, int);
int main() {
    int a, b;
    std::cin >> a >> b;
    std::cout << add(a, b);  // it's 1'000 `quick`
}

int add(int a,
        int b)
{
    return a + b;
}
"""
OTHER = '#include <cstdio>\nint main() { puts("no"); }\n'
FENCED = f"```cpp\n{PROGRAM}```\n"
OTHERS = f"```cpp\n{OTHER}```\n"


QUOTED = "".join(f"> {line}" for line in FENCED.splitlines(keepends=True))


@pytest.mark.parametrize(
    "text",
    {
        "block quote": QUOTED,
        "block quote that ends early": f"> ```cpp\n{PROGRAM}```\n",
        "item of a list": f"1. ```cpp\n{PROGRAM}   ```\n",
        "end token": f"```cpp\n{PROGRAM}```<|im_end|>",
        "end token of DeepSeek": f"~~~cpp\n{PROGRAM}~~~<｜end▁of▁sentence｜>\n",
        "end token without a fence": f"```cpp\n{PROGRAM}<|im_end|>\n<|im_start|>user\nthanks",
        "token before": f"<|im_start|>assistant\n{FENCED}",
        "parenthesis": f"(```cpp\n{PROGRAM}```)\n",
        "prose behind the closing fence": f"```cpp\n{PROGRAM}```这段代码相加。\n\n```\n1 2\n```\n",
        "opening fence behind text": f"代码如下：```cpp\n{PROGRAM}```\n",
        "code on the fence's line": f"```cpp {PROGRAM}```",
        "code on the fence's line without a tag": f"```{PROGRAM}```",
        "tag on the next line": f"```\ncpp\n{PROGRAM}```",
        "attributes": f'```cpp title="a.cpp" linenums="1"\n{PROGRAM}```',
        "doubled fence": f"```cpp\n```cpp\n{PROGRAM}```\n```\n",
        "fence in a fence": f"````markdown\nSo:\n{FENCED}````\n",
        "the same in draft and answer": f"<think>\n{FENCED}</think>\n{FENCED}",
        "the same twice": FENCED + FENCED,
        "output behind it": f"{FENCED}\n```\ncall main() first\n```\n```text\n1 2\n```\n",
        "zero-width space": f"```cpp\n\u200b{PROGRAM}```",
        "no-break spaces": f"```cpp\n{PROGRAM.replace('    int', chr(160) * 4 + 'int')}```",
        "HTML entities": f"```cpp\n{PROGRAM.replace('<', '&lt;').replace('>', '&gt;')}```",
        "prose behind an open fence": f"```cpp\n{PROGRAM}\n读入两个数，输出它们的和。\n",
        "prose behind no fence": f"{PROGRAM}\nTime complexity: O(1)\n",
        "tag around no fence": f"[code]\n{PROGRAM}[/code]\n",
        "full-width fence": f"｀｀｀cpp\n{PROGRAM}｀｀｀",
        "other tag": f"```text\n{PROGRAM}```\n",
        "call of a tool": json.dumps({"name": "submit", "arguments": {"code": PROGRAM}}),
        "JSON that is cut off": f'```json\n{{"say": "\\"hi\\"", "code": {json.dumps(PROGRAM)}, "la',
    }.items(),
    ids=lambda pair: pair[0],
)
def test_the_only_program_is_found_as_it_was_meant(text):
    name, text = text
    found = extract_code(text)
    same_lines = [line.strip() for line in (found.code or "").strip().split("\n")]
    assert same_lines == [line.strip() for line in PROGRAM.strip().split("\n")], found
    assert (found.choice, found.reason) == ("only", None)


THINK = f"<think>\nMaybe\n{OTHERS}\nno.\n"


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        (OTHERS + FENCED, "last"),
        (f"```cpp\n{OTHER[:30]}\n\n```cpp\n{PROGRAM}```", "last"),  # begun anew
        (f"{OTHER}\nNo, they are to be added:\n\n{PROGRAM}", "last"),
        (f"暴力：\n{OTHERS}正解：\n{FENCED}", "last"),
        (f"{FENCED}关键的一行是：\n```cpp\nstd::cout << a + b;\n```\n", "program"),
        (f"{FENCED}模板：\n```cpp\n// 你的代码\n```", "program"),
        (f"```cpp\n{PROGRAM}```cpp\nadds two numbers.\n", "program"),
        (f"{FENCED}Faster:\n```cpp\n{OTHER[:40]}", "finished"),
        (f"{FENCED}暴力对拍：\n{OTHERS}", "announced"),
        (f"{FENCED}To test it, a brute-force solution:\n\n{OTHERS}", "announced"),
        (f"{FENCED}错误写法：\n{OTHERS}", "announced"),
        (f"{FENCED}Form:\n```cpp\n#include <a>\nint main() {{ // your code\n}}\n```", "announced"),
        (f"{THINK}</think>\n{FENCED}", "after_reasoning"),
        (f"<think>\n```cpp\n{OTHER}</think>\n\n{FENCED}", "after_reasoning"),  # left open
        (f"{THINK.replace('<think>', '')}</think>\n{FENCED}", "after_reasoning"),
        (
            f"<|channel|>analysis<|message|>{OTHERS}<|end|><|start|>assistant<|channel|>final"
            f"<|message|>{FENCED}<|return|>",
            "after_reasoning",
        ),
        (f"<think>\n{FENCED}</think>\nAs above.\n", "in_reasoning"),
        (f"<think>\n{OTHERS}No:\n{FENCED}</think>\nAs above.\n", "last"),
        (f"<think>\n{FENCED}</think>\n```cpp\nstd::cout << a + b;\n```\n", "program"),
    ],
)
def test_one_of_several_is_chosen_and_the_reason_kept(text, choice):
    found = extract_code(text)
    assert found.code is not None and found.code.strip() == PROGRAM.strip()
    assert found.choice == choice


def test_parts_of_a_program_are_joined():
    parts = ["#include <iostream>\nusing namespace std;\n", "int two() { return 2; }"]
    parts.append("int main() { cout << two(); }\n")
    found = extract_code("Then\n".join(f"```cpp\n{part}\n```\n" for part in parts))
    assert found.choice == "joined"
    assert found.code.split() == " ".join(parts).split()


def test_what_belongs_to_the_program_stays():
    head = "// 解法\n#define N 105\n\n#pragma GCC optimize(2)\n"
    assert extract_code(f"Well:\n\n{head}{PROGRAM}").code == head + PROGRAM
    code = '#include <a>\nint main() { puts("\u00a0\u200b&lt;"); }  // \u3000\n'
    assert extract_code(f"```cpp\n{code}```").code == code
    half = PROGRAM[: PROGRAM.index("b;\n    std::cout")]
    for text in (f"```cpp\n{half}", half, f"> ok\n\n```cpp\n{half}<|endoftext|>"):
        assert extract_code(text).code == half


@pytest.mark.parametrize(
    "piece",
    ["> ```cpp\n", '\\"', "//your ", "/*", "main(){}\n", "main()/**/", "main()/*", "<|a|>"]
    + ["#\n", "~"],
)
def test_time_grows_with_the_length_alone(piece):
    """A text that takes time in proportion to its square would need minutes here."""
    extract_code(f"```cpp\n{piece * (200_000 // len(piece))}`")


PARTS = ["```", "~~~", "\n", " ", "cpp", "#include <x>", "main() {", "}", ">", '"', "/*"]
PARTS += ["</think>", "<|a|>", "- ", "中", "\r", "\u200b"]


@given(st.lists(st.sampled_from(PARTS)))
def test_never_fails_and_only_takes_from_the_completion(parts):
    text = "".join(parts)
    found = extract_code(text)
    assert (found.code is None) == (found.how == "none") == (found.reason is not None)
    assert found.code is None or found.code.strip()
    assert all(line.strip("> \u200b\r") in text for line in (found.code or "").split("\n"))
