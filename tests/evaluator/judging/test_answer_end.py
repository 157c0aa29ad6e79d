"""Where the answer in a completion ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluator.judging.answer_end import end_of_answer
from evaluator.judging.extract import extract_code

PROGRAM = "#include <cstdio>\nint main() { return 0; }\n"
ANSWER = f"Read both numbers:\n```cpp\n{PROGRAM}```\n"

ENDING = {
    "a program in a fence": ("", ANSWER),
    "a piece before the program": ("", f"```cpp\nint a[9];\n```\n{ANSWER}"),
    "an input before the program": ("", f"```text\n1 2\n```\n{ANSWER}"),
    "a fence without a language": ("", f"```\n{PROGRAM}```\n"),
    "tildes": ("", f"~~~cpp\n{PROGRAM}~~~\n"),
    "after the reasoning": ("", f"<think>\n{ANSWER}</think>\n{ANSWER}"),
    "after reasoning that the prompt opened": ("<think>\n", f"{ANSWER}</think>\n{ANSWER}"),
    "after reasoning in other words": ("", f"<Thinking>\n{ANSWER}</Thinking>\n{ANSWER}"),
    "after another channel": (
        "<|start|>assistant<|channel|>analysis<|message|>",
        f"{ANSWER}<|end|><|start|>assistant<|channel|>final<|message|>{ANSWER}",
    ),
}
OPEN = {
    "nothing": ("", ""),
    "no fence": ("", PROGRAM),
    "an open fence": ("", f"```cpp\n{PROGRAM}"),
    "a fence whose line is not over": ("", f"```cpp\n{PROGRAM}```"),
    "no program": ("", "```cpp\nint f();\n```\n"),
    "reasoning that is not over": ("", f"<think>\n{ANSWER}"),
    "reasoning of the prompt that is not over": ("<|im_start|>assistant\n<think>\n", ANSWER),
    "a fence that opens another block": ("", f"```cpp\n{PROGRAM}```python\n"),
}


@pytest.mark.parametrize(("prompt", "text"), ENDING.values(), ids=ENDING)
def test_ends_with_the_fence_behind_the_program(prompt, text):
    assert end_of_answer(text, prompt) == end_of_answer(text, prompt, whole=True) == len(text)
    assert end_of_answer(f"{text}It reads\n```cpp\n{PROGRAM}```\n", prompt) == len(text)


@pytest.mark.parametrize(("prompt", "text"), OPEN.values(), ids=OPEN)
def test_does_not_end_before(prompt, text):
    assert end_of_answer(text, prompt) is None


@pytest.mark.parametrize("end", ["</think>", "</reasoning>", "<|channel|>final<|message|>"])
def test_a_whole_text_ends_behind_its_last_reasoning(end):
    """The chat template may have opened it, of a prompt that nobody here knows."""
    draft = ANSWER.replace("return 0", "return 1")
    text = f"Let me try\n{draft}So:\n{draft}{end}\n{ANSWER}"
    longer = f"{text}It reads\n{draft}"
    assert end_of_answer(longer, whole=True) == len(text)
    assert extract_code(text).code == PROGRAM
    assert end_of_answer(f"{draft}{end}", whole=True) is None
    assert end_of_answer(f"<think>{draft}", whole=True) is None


PIECES = ["```cpp\n", "```\n", "> ", "<think>", "</think>", "[THINK]", "[/THINK]", PROGRAM, "a\n"]


@given(st.lists(st.sampled_from(PIECES)))
def test_a_longer_text_ends_where_a_shorter_one_did(pieces):
    texts = ["".join(pieces[:n]) for n in range(len(pieces) + 1)]
    ends = [end for text in texts if (end := end_of_answer(text)) is not None]
    assert len(set(ends)) <= 1
