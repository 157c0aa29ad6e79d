"""Writes chats out with a chat template, as a process of its own.

A chat template is a program. transformers' sandbox keeps it from files, not from endless loops or
from taking all memory, so it runs here, where the kernel bounds both. Standard input is one JSON
object (see :func:`main`), standard output a line a chat: ``{"text": ...}`` or ``{"error": ...}``.
"""

import contextlib
import json
import resource
import sys
from pathlib import Path

MEMORY_BYTES = 512 << 20  # on top of what the process has when it begins
SECONDS, SECONDS_PER_CHAT = 2, 0.02  # of CPU
_OUTPUT_CHARACTERS = 64 << 20  # of all chats


def main() -> None:
    """Answer ``{"template": str, "names": {special tokens}, "chats": [{"messages", ...}]}``."""
    from transformers.utils.chat_template_utils import render_jinja_template

    request = json.load(sys.stdin)
    _bound(round(SECONDS + SECONDS_PER_CHAT * len(request["chats"])))
    left = _OUTPUT_CHARACTERS
    for chat in request["chats"]:
        try:
            (text,), _ = render_jinja_template(
                [chat["messages"]],
                chat_template=request["template"],
                add_generation_prompt=chat["add_generation_prompt"],
                **request["names"],
            )
            answer = {"text": text} if len(text) <= left else {"error": "it writes too much"}
        except Exception as error:  # a template can raise anything
            answer = {"error": f"{type(error).__name__}: {error}"[:500]}
        left -= len(answer.get("text", ""))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _bound(seconds: int) -> None:
    """Let the kernel end this process where it takes more, and refuse it memory."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limits = {resource.RLIMIT_CPU: int(used.ru_utime + used.ru_stime) + seconds + 1}
    limits[resource.RLIMIT_CORE] = 0
    with contextlib.suppress(FileNotFoundError):  # only Linux says how much it has
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limits[resource.RLIMIT_AS] = pages * resource.getpagesize() + MEMORY_BYTES
    for what, limit in limits.items():
        hard = resource.getrlimit(what)[1]
        soft = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(what, (soft, hard))


if __name__ == "__main__":
    main()
