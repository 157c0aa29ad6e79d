"""Writes chats out with a chat template, as a process of its own.

A chat template is a program that comes with a checkpoint. The sandbox in which transformers runs it
keeps it from files and Python's insides, not from endless loops or from taking all memory, so it
runs here, where the kernel bounds both. Standard input is one JSON object (see :func:`main`),
standard output one JSON line for each chat: ``{"text": ...}`` or ``{"error": ...}``.
"""

import contextlib
import json
import resource
import sys
from pathlib import Path
from typing import Any

MEMORY_BYTES = 512 << 20  # on top of what the process has when it begins
OUTPUT_CHARACTERS = 64 << 20  # of all chats
_SECONDS, _SECONDS_PER_CHAT = 2, 0.02  # of CPU


def main() -> None:
    """Answer ``{"template": str, "names": {special tokens}, "chats": [{"messages", ...}]}``."""
    from transformers.utils.chat_template_utils import render_jinja_template

    request = json.load(sys.stdin)
    _bound(seconds_for(len(request["chats"])))
    left = OUTPUT_CHARACTERS
    for chat in request["chats"]:
        answer: dict[str, Any]
        try:
            texts, _ = render_jinja_template(
                [chat["messages"]],
                chat_template=request["template"],
                add_generation_prompt=chat["add_generation_prompt"],
                **request["names"],
            )
            fits = len(texts[0]) <= left
            answer = {"text": texts[0]} if fits else {"error": "it writes too much"}
            left -= len(texts[0]) if fits else 0
        except Exception as error:  # a template can raise anything
            answer = {"error": f"{type(error).__name__}: {error}"[:500]}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def seconds_for(chats: int) -> int:
    """CPU seconds that the template may take for a number of chats."""
    return round(_SECONDS + _SECONDS_PER_CHAT * chats)


def _bound(seconds: int) -> None:
    """Let the kernel end this process where it takes more, and refuse it memory."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _lower(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + seconds + 1)
    _lower(resource.RLIMIT_CORE, 0)
    with contextlib.suppress(FileNotFoundError):  # only Linux says how much it has
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        _lower(resource.RLIMIT_AS, pages * resource.getpagesize() + MEMORY_BYTES)


def _lower(what: int, limit: int) -> None:
    hard = resource.getrlimit(what)[1]
    resource.setrlimit(what, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


if __name__ == "__main__":
    main()
