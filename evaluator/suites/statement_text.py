"""Statements as bytes: UTF-8, UTF-16 or, as old Chinese archives have it, GBK."""

from evaluator.errors import ArchiveError

_LEAST_COMMON = 0.8  # share of GB 2312 among the characters; what is no GBK has far less


def decode_statement(where: str, data: bytes) -> str:
    """Decode a text that people should read; an ArchiveError names the file ``where``."""
    utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    for encoding in ("utf-16",) if utf16 else ("utf-8-sig", "gb18030"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if encoding != "gb18030" or _is_chinese(text):
            return text
    raise ArchiveError(f"{where}: the text is neither UTF-8 nor GBK; save it as UTF-8")


def _is_chinese(text: str) -> bool:
    """Whether most of what is not ASCII is of GB 2312; any bytes are some GBK characters."""
    foreign = [character for character in text if character > "\x7f"]
    common = len("".join(foreign).encode("gb2312", "ignore")) // 2
    return common >= _LEAST_COMMON * len(foreign)
