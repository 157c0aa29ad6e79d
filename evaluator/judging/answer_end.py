"""Where the answer in a completion ends, for runs that write no further (``stop: closing_fence``).

It ends with the fence that closes the first C++ block that is a program. Blocks in the reasoning of
a model are drafts.
"""

import re

from evaluator.judging.code_blocks import fenced_blocks
from evaluator.judging.cpp_text import has_include, has_main
from evaluator.judging.reasoning import BEGUN_REASONING, REASONING, REASONING_END

_FENCE_LINE = re.compile(r".*(?:```|~~~).*\n")


def end_of_answer(text: str, prompt: str = "", *, whole: bool = False) -> int | None:
    r"""Length of the text up to the line of the fence that ends the answer; None without one.

    It is the same for all longer texts: a line counts when its line break is there. A prompt that
    ends with ``<think>`` opened the reasoning itself. Of a ``whole`` text, whose prompt may not be
    known, the answer is what stands behind the last end of reasoning, as for ``extract_code``.

    >>> text = "```cpp\n#include <cstdio>\nint main() {}\n```\nThe program reads"
    >>> text[end_of_answer(text):], end_of_answer(text[:30])
    ('The program reads', None)
    """
    start, begun = 0, BEGUN_REASONING.search(prompt)
    if whole:
        for end in REASONING_END.finditer(text):
            start, begun = end.end(), None
    opened = begun[0] if begun else ""
    for line in _FENCE_LINE.finditer(text, start):
        answer = REASONING.sub("\n", opened + text[start : line.end()])
        blocks = (block for block in fenced_blocks(answer) if block.end == "closed")
        if any(has_include(block.code) and has_main(block.code) for block in blocks):
            return line.end()
    return None
