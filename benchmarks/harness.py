"""What all benchmarks do: time rivals in turn, watch commands from outside, write a page."""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from tinylora import load_artifact, save_artifact

ROOT = Path(__file__).resolve().parents[1]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# They decide how fast the same command is, so they are told with it.
_SETTINGS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "OMP_NUM_THREADS")
_SECONDS_BETWEEN_SAMPLES = 0.02


def parser(description: str | None, page: str, rounds: int = 3) -> argparse.ArgumentParser:
    """The options that all have; ``page`` is where the results go if nothing else is said."""
    raw = argparse.RawDescriptionHelpFormatter
    found = argparse.ArgumentParser(description=description, formatter_class=raw)
    found.add_argument("--out", type=Path, default=Path("results") / page)
    found.add_argument("--rounds", type=int, default=rounds)
    return found


def alternate(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each way, once a round in turn, so that a drift of the machine hits all alike."""
    finish = torch.cuda.synchronize if DEVICE == "cuda" else lambda: None
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for way in ways.values():
        way()
    for _ in range(rounds):
        for name, way in ways.items():
            finish()
            start = time.perf_counter()
            way()
            finish()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def kept_json(path: Path, make: Callable[[], Any]) -> Any:
    """What a file holds; made and written whole where it is not there yet."""
    if not path.is_file():
        found = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(found, indent=1))
        unfinished.replace(path)
    return json.loads(path.read_text())


def scaled(artifact: Path, size: float, out: Path, direction: Tensor | None = None) -> None:
    """Write an artifact with its vector, or one in another direction, at a mean |v| of ``size``."""
    found = load_artifact(artifact)
    vector = found.global_v.float() if direction is None else direction
    vector = vector * (size / vector.abs().mean())
    same = ("rank", "seed", "model_id", "total_replaced_layers", "formula", "saved_device")
    save_artifact(out, global_v=vector, **{name: getattr(found, name) for name in same})


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Markdown; the first column and those of words are to the left, numbers to the right."""
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in (columns, *rows)]
    words = [any(x[:1].isalpha() for x in column) for column in zip(*cells[1:], strict=True)]
    ruler = ["---", *("---" if is_words else "---:" for is_words in words[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in (cells[0], ruler, *cells[1:])) + "\n"


def write_page(out: Path, text: str | None, *parts: str, about: str | None = None) -> None:
    """Write and print a page: the command that makes it, on what (or the machine), and the parts.

    ``text`` is a script's docstring: its first line is the title, the rest says what was done.
    """
    title, _, rest = (text or "").partition("\n")
    spec = sys.modules["__main__"].__spec__
    settings = [f"{name}={os.environ[name]}" for name in _SETTINGS if name in os.environ]
    command = " ".join([*settings, "python -m", spec.name if spec else "?", *sys.argv[1:]])
    made = f"`{command}` on {about or machine()}."
    page = "\n\n".join([f"# {title}", made, *(part.strip("\n") for part in (rest, *parts))]) + "\n"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page, encoding="utf-8")
    print(page)


def machine() -> str:
    """Processor, cores and versions."""
    packages = ("torch", "transformers", "bitsandbytes", "peft")
    parts = [processor(), f"{torch.get_num_threads()} threads"]
    if DEVICE == "cuda":
        parts += [torch.cuda.get_device_name(), f"CUDA {torch.version.cuda}"]
    parts += [f"Python {platform.python_version()}"]
    return ", ".join(parts + [f"{name} {version(name)}" for name in packages])


def processor() -> str:
    """Name of the processor, and what decides how fast it computes."""
    facts = Path("/proc/cpuinfo").read_text()
    named = re.search(r"^model name\s*: (.+)", facts, re.MULTILINE)
    has_bf16 = re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", facts)
    held = "ONEDNN_MAX_CPU_ISA" in os.environ  # to AVX2 in the Makefile, which has none
    name = named[1] if named else platform.machine()
    bf16 = "with" if has_bf16 and not held else "without"
    return f"{name} ({torch.backends.cpu.get_cpu_capability()}, {bf16} bfloat16 arithmetic)"


@dataclass(frozen=True)
class Usage:
    """Seconds; largest ``RssAnon``, which the kernel cannot take back, and ``VmHWM``, in bytes."""

    seconds: float
    private: int
    resident: int


def watch(command: Sequence[str], threads: int | None = None) -> Usage:
    """Run a command from the repository's root, by default with a thread a core; wait for it.

    Raises:
        subprocess.CalledProcessError: It failed; its output is on stderr.
    """
    threads = threads or os.cpu_count()
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    private = resident = 0
    start = time.perf_counter()
    with subprocess.Popen(command, env=environment, cwd=ROOT, stdout=sys.stderr) as process:
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            # a process that has ended and was not yet waited for has none of them
            found = dict(re.findall(r"(RssAnon|VmHWM):\s+(\d+) kB", status.read_text()))
            private = max(private, int(found.get("RssAnon", 0)) * 1024)
            resident = max(resident, int(found.get("VmHWM", 0)) * 1024)
            time.sleep(_SECONDS_BETWEEN_SAMPLES)
        seconds = time.perf_counter() - start
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(command))
    return Usage(seconds, private, resident)


def usage_table(found: Mapping[str, Sequence[Usage]], one: str) -> str:
    """Medians of several commands, also over those of one of them."""
    middle = {
        name: [median(part) for part in zip(*map(astuple, usages), strict=True)]
        for name, usages in found.items()
    }
    rows = [
        (name, f"{seconds:.2f}", f"{private / 1e6:.0f}", f"{resident / 1e6:.0f}",
         *(f"{a / b:.3f}" for a, b in zip(middle[name], middle[one], strict=True)),
         " ".join(f"{usage.seconds:.2f}" for usage in found[name]))
        for name, (seconds, private, resident) in middle.items()
    ]  # fmt: skip
    columns = ("command", "s", "private MB", "resident MB", f"s / {one}", "private", "resident",
               "all s")  # fmt: skip
    return table(columns, rows)


def merge(artifact: Path, base: Path, out: Path, *options: str) -> list[str]:
    """``tinylora-export merge`` with factors stored beside the artifact."""
    store = artifact.with_name("factors")
    paths = ("--base", base, "--artifact", artifact, "--factor-store", store, "--out", out)
    return [sys.executable, "-m", "exporter", "merge", *map(str, paths), "--overwrite", *options]
