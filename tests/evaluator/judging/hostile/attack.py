"""What an attack is, and what must come of it."""

from dataclasses import dataclass

HEAD = """
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <initializer_list>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
"""
MARK = "tinylora-attack"  # begins the name of everything that an attack tries to leave behind
ANSWER_FILE = "@answer file@"  # where the path of a real one is put
IPC_KEY = 0x7A11
PORT = 17653  # below those that connections of others are given


@dataclass(frozen=True)
class Attack:
    """A program and the only outcome that is right.

    Attributes:
        signals: The signals of which one must have ended the program; empty: it must have exited.
        detail: A part of the verdict's detail, or a pattern in the compiler's message.
        memory_kib: Resident KiB that the judge may report, from and to.
    """

    name: str
    code: str
    verdict: str = "AC"
    signals: tuple[int, ...] = ()
    exit_code: int = 0
    detail: str = ""
    answer: str = "ok\n"
    time_limit_ms: int = 300
    memory_kib: tuple[int, int] = (0, 512 << 10)


def main(body: str) -> str:
    """A source whose main function has this body."""
    return f"{HEAD}\nint main() {{ {body} }}\n"
