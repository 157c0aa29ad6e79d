"""Taking calls of freopen out of a program, as the upstream project does."""

import re

# Of the arguments (two and the stream) no text is looked into, and parentheses may stand in them.
_PART = r'"(?:[^"\\\n]|\\.)*"|[^"();]'
_CALL = re.compile(
    rf"(?:(?<![\w>])(?:std\s*)?::\s*)?\bfreopen\s*\((?:{_PART}|\((?:{_PART})*\))*,([^\",();]+)\)"
)


def strip_freopen(source: str) -> str:
    r"""Put the stream that it would return in the place of every call.

    Example:
        >>> strip_freopen('if (!std::freopen("a.in", "r", stdin)) return 1;')
        'if (!stdin) return 1;'
    """
    return _CALL.sub(lambda call: call[1].strip(), source)
