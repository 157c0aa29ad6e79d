"""Compiling and running the demo's own small C++ programs (trusted: made from the families)."""

from __future__ import annotations

import hashlib
import subprocess
import threading
from pathlib import Path


def compiled(source: str, folder: Path) -> Path:
    """The binary of ``source`` in ``folder``, compiled once."""
    binary = folder / hashlib.sha256(source.encode()).hexdigest()[:24]
    if not binary.exists():
        # Another thread may want the same program: only a whole binary gets the name.
        unfinished = binary.with_suffix(f".{threading.get_ident()}")
        command = ["g++", "-std=c++14", "-O1", "-w", "-x", "c++", "-", "-o", str(unfinished)]
        subprocess.run(command, input=source, text=True, check=True, capture_output=True)
        unfinished.replace(binary)
    return binary


def output_of(binary: Path, text: str, *arguments: str, seconds: float = 2) -> str | None:
    """What the program prints for ``text``; None where it fails or takes too long."""
    try:
        done = subprocess.run(
            [binary, *arguments],
            input=text.encode(),
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def same_lines(output: str | None, answer: str) -> bool:
    """Luogu's comparison: trailing blanks of lines and of the file do not count."""
    if output is None:
        return False
    lines = [[line.rstrip() for line in text.rstrip().split("\n")] for text in (output, answer)]
    return lines[0] == lines[1]
