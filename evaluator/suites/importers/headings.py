"""Id, title and statement of a Luogu problem, from the text that a model is given."""

import re
from typing import NamedTuple

_HEADING = re.compile(
    r"^#[ \t]+(?P<id>(?:[PBTU]|SP|UVA)\d+|CF\d+[A-Z]\d*|AT_?\w+)\b[ \t]*(?P<title>.*)$",
    re.MULTILINE,
)


class Headed(NamedTuple):
    """A prompt's parts.

    Attributes:
        id: ``P1002`` of ``# P1002 [NOIP 2002] ...``; None where there is no such heading.
        statement: The prompt from its heading on, or all of it.
        prompt: The whole prompt where something stands before the heading, else None.
    """

    id: str | None
    title: str
    statement: str
    prompt: str | None


def read_heading(prompt: str) -> Headed:
    """Split a prompt at the statement's heading."""
    match = _HEADING.search(prompt)
    if match is None:
        return Headed(None, "", prompt, None)
    statement = prompt[match.start() :]
    before = prompt[: match.start()].strip()
    return Headed(match["id"], match["title"].strip(), statement, prompt if before else None)


def language_of(statement: str) -> str:
    """``zh`` where a statement has Chinese characters, else ``en``."""
    return "zh" if re.search(r"[\u4e00-\u9fff]", statement) else "en"
