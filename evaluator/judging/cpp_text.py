"""What a text says about being a C++ program, in time that grows with its length alone."""

import re

_UNSEEN = "\u00ad\u200b-\u200f\u2060\ufeff"
_BLANKS = "\u00a0\u2000-\u200a\u202f\u205f\u3000"
INCLUDE_LINE = re.compile(
    rf"^[ \t{_UNSEEN}{_BLANKS}]*#[ \t]*include[ \t]*(?:[<\"]|&lt;)", re.MULTILINE
)
# Comments, strings (also cut off), numbers (which may have ' in them).
_NO_CODE = (
    r"//[^\n]*|/\*.*?(?:\*/|\Z)"
    r'|R"(?P<end>[^()\\\s]{0,16})\(.*?(?:\)(?P=end)"|\Z)'
    r'|"(?:\\.|[^"\\\n])*"?' + r"|'(?:\\.|[^'\\\n])*'?|\d[\w'.]*"
)
# Not of Go, Rust, Kotlin, JavaScript and Java.
_MAIN = (
    r"(?<!func )(?<!fn )(?<!fun )(?<!function )\bmain\s*\((?![^()]*\bString\b)[^(){};]*\)"
    r"(?>\s|//[^\n]*\n|/\*.*?\*/)*+(?:->\s*\w+\s*|noexcept\s*|try\s*)?\{"
)
_NO_CODE_OR_MAIN = re.compile(rf"{_NO_CODE}|(?P<main>{_MAIN})", re.DOTALL)
_MARKS = re.compile(rf"{_NO_CODE}|(?P<main>{_MAIN})|(?P<mark>[{{}}`\n])", re.DOTALL)
_OPAQUE = re.compile(_NO_CODE, re.DOTALL)
_ODD = re.compile(rf"{_NO_CODE}|(?P<unseen>[{_UNSEEN}])|(?P<blank>[{_BLANKS}])", re.DOTALL)
_ESCAPED = re.compile(r"#[ \t]*include[ \t]*&lt;")
_ENTITIES = {"lt": "<", "gt": ">", "amp": "&", "quot": '"', "#39": "'", "nbsp": " "}
_DIRECTIVE = r"#\s*(?:include|define|undef|if|ifdef|ifndef|else|elif|endif|pragma|error|line)\b"
_SURELY_CODE = re.compile(rf"\s*(?:$|{_DIRECTIVE}|template\b)")
_MAYBE_CODE = re.compile(r"\s*(?:[{};]|[A-Za-z_:}][\x00-\x7f]*(?:[;{}]|\([^()]*,))\s*$")
_SIGNATURE = re.compile(r"\s*[A-Za-z_][\x00-\x7f]*\)\s*$")
_OPENS_NEXT = re.compile(r"\s*\{")
# Of the arguments (two and the stream) no text is looked into, and parentheses may stand in them.
_PART = r'"(?:[^"\\\n]|\\.)*"|[^"();]'
_CALL = re.compile(
    rf"(?:(?<![\w>])(?:std\s*)?::\s*)?\bfreopen\s*\((?:{_PART}|\((?:{_PART})*\))*,([^\",();]+)\)"
)


def has_include(code: str) -> bool:
    """Whether a line of it includes a header."""
    return INCLUDE_LINE.search(code) is not None


def has_main(code: str) -> bool:
    """Whether it defines main()."""
    return any(found["main"] for found in _NO_CODE_OR_MAIN.finditer(code))


def end_of_program(text: str, start: int = 0) -> tuple[int, bool]:
    """Where a program ends that begins at a place of a text, and whether it is whole.

    It ends at a backtick, or behind main() at a line that is no code, else with the text.
    """
    depth, begun = 0, False
    for found in _MARKS.finditer(text, start):
        whole = begun and depth <= 0
        if found["main"] is not None:
            depth, begun = depth + 1 if begun else 1, True
        elif found["mark"] == "`":
            return found.start(), whole
        elif found["mark"] == "\n" and whole and not _may_be_code(text, found.end()):
            return found.end(), True
        elif found["mark"] in ("{", "}"):
            depth += 1 if found["mark"] == "{" else -1
    return len(text), begun and depth <= 0


def cleaned(code: str) -> str:
    """Take out what the way to here put in: HTML entities, characters that cannot be seen."""
    if _ESCAPED.search(code):
        code = re.sub(r"&(lt|gt|amp|quot|#39|nbsp);", lambda found: _ENTITIES[found[1]], code)
    if code.isascii():
        return code
    return _ODD.sub(lambda f: "" if f["unseen"] else " " if f["blank"] else f[0], code)


def strip_freopen(source: str) -> str:
    r"""Put the stream that it would return in the place of every call.

    Example:
        >>> strip_freopen('if (!std::freopen("a.in", "r", stdin)) return 1;')
        'if (!stdin) return 1;'
    """
    return _CALL.sub(lambda call: call[1].strip(), source)


def _may_be_code(text: str, start: int) -> bool:
    """Whether the line that begins here, outside of any braces, may be C++."""
    end = text.find("\n", start)
    end = len(text) if end < 0 else end
    line = text[start:end]
    if line.lstrip().startswith(("'", '"')):
        return False
    line = _OPAQUE.sub(" ", line)
    if _SURELY_CODE.match(line) or _MAYBE_CODE.match(line):
        return True
    return _SIGNATURE.match(line) is not None and _OPENS_NEXT.match(text, end) is not None
