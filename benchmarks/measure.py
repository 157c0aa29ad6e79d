"""Timing of rival functions in turn, and the line that says where they were timed."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch


@dataclass(frozen=True)
class Row:
    """One line of a table: a way of doing something and its seconds, best and median."""

    task: str
    way: str
    median: float
    best: float
    note: str = ""


def alternate(
    task: str, ways: Mapping[str, Callable[[], object]], rounds: int, warm_up: bool = True
) -> list[Row]:
    """Time each way once a round, in turn, so that a drift of the machine hits all alike."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for way in ways.values() if warm_up else ():
        way()
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    return [Row(task, name, statistics.median(s), min(s)) for name, s in seconds.items()]


def word(holds: bool) -> str:
    """Whether what was wanted holds, as tables say it."""
    return "holds" if holds else "MISSED"


def at_least(ratio: float, wanted: float) -> str:
    """What was wanted of a ratio, and whether it holds."""
    return f"wanted ≥ {wanted:g}: {word(ratio >= wanted)}"


def processor() -> str:
    """Name of the processor, and what decides how fast it computes."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    pairs = (line.partition(":") for line in lines)
    about = {name.strip(): value.strip() for name, _, value in pairs}
    name = about.get("model name") or platform.processor() or platform.machine()
    has_bf16 = {"avx512_bf16", "amx_bf16", "bf16"} & set(about.get("flags", "").split())
    bf16 = "with" if has_bf16 else "without"
    held = os.environ.get("ONEDNN_MAX_CPU_ISA")  # below avx512_core_bf16 there is none
    if has_bf16 and held is not None:
        bf16 = f"oneDNN held to {held}, so without the processor's"
    return f"{name} ({torch.backends.cpu.get_cpu_capability()}, {bf16} bfloat16 arithmetic)"


def machine() -> str:
    """Processor, cores and versions."""
    packages = ("torch", "transformers", "bitsandbytes", "peft")
    parts = [
        processor(),
        f"{torch.get_num_threads()} threads",
        f"Python {platform.python_version()}",
    ]
    return ", ".join(parts + [f"{name} {version(name)}" for name in packages])


def markdown(title: str, command: str, rows: Sequence[Row]) -> str:
    """A table with the command and machine that made it."""
    lines = [f"# {title}", "", f"`{command}` on {machine()}.", ""]
    lines += ["| task | way | median s | best s | note |", "| --- | --- | ---: | ---: | --- |"]
    lines += [f"| {r.task} | {r.way} | {r.median:.4g} | {r.best:.4g} | {r.note} |" for r in rows]
    return "\n".join(lines) + "\n"
