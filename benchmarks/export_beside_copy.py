"""Export beside copying the files

    python -m benchmarks.random_base --shape qwen2.5-coder-3b --out DIR
    python -m benchmarks.export_beside_copy --model DIR

The artifact is of a real one's size, so no code of the 4-bit base can move: the export reads, asks,
writes, reads back, compares and hashes, and what it writes are the base's own weights; into bf16 it
also adds, casts and measures every weight. Factors are
stored (the fast ones, as which they are does not matter to the speed). Copy and export run in turn
and end when the data are on the disk (fsync), each after memory was put into the same state: on a
virtual machine the host takes back memory that lies free, and touching it again costs more than
writing a file to it. So memory is filled with pages of a file without content, as it is on a
machine that has been in use, and some of it is freed in pieces too small to be taken back.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from benchmarks.harness import median, merge, parser, table, watch, whole_directory, write_page
from exporter import ExportRequest, export
from tinylora import DeltaOptions

THREADS = os.cpu_count() or 1
_PIECE = 1 << 19
_READ = 1 << 23
_KEEP_FREE = 300 << 20


def settle(directory: Path, free: int) -> None:
    """Fill memory with cached pages of a sparse file in a directory, and free so many bytes."""
    path = directory / "filler"
    with path.open("ab") as file:
        file.truncate(_memory("MemTotal"))
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        buffer = bytearray(_READ)
        while _memory("MemFree") > _KEEP_FREE and file.readinto(buffer):
            pass
        for start in range(0, file.tell(), 128 * _PIECE):
            for place in range(start, start + 128 * _PIECE, 2 * _PIECE):
                os.posix_fadvise(file.fileno(), place, _PIECE, os.POSIX_FADV_DONTNEED)
            if _memory("MemFree") >= free:
                break


def remember(files: Iterable[Path]) -> None:
    """Read files, so that they are in the page cache."""
    buffer = bytearray(_READ)
    for file in files:
        with file.open("rb", buffering=0) as opened:
            while opened.readinto(buffer):
                pass


def forget(files: Iterable[Path]) -> None:
    """Ask the kernel to drop the pages of files, so that they are read from the disk."""
    for file in files:
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _memory(name: str) -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    (found,) = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return int(found) * 1024


def timed_export(model: Path, base: Path, out: Path, format_: str) -> tuple[float, int]:
    """Seconds, and codes that moved."""
    request = ExportRequest(
        base=base,
        artifact=model / "tiny_lora_v.pt",
        out=out,
        format=format_,
        options=DeltaOptions(svd="fast"),
        factor_store=model / "factors",
    )
    start = time.perf_counter()
    report = export(request)
    seconds = time.perf_counter() - start
    return seconds, sum(module.codes_moved or 0 for module in report.fidelity.modules)


def run_export(
    model: Path,
    base: Path,
    out: Path,
    settle: Callable[[], None] = lambda: None,
    format_: str = "nf4",
) -> tuple[float, int]:
    """:func:`timed_export` by a process that has imported everything before memory is settled."""
    with ProcessPoolExecutor(
        1, get_context("spawn"), initializer=torch.set_num_threads, initargs=(THREADS,)
    ) as process:
        process.submit(imported).result()
        settle()
        return process.submit(timed_export, model, base, out, format_).result()


def imported() -> None:
    """Import what an export imports when it needs it, which is not what is timed."""
    for name in ("bitsandbytes", "transformers.models.qwen2.modeling_qwen2"):
        import_module(name)


def run_copy(base: Path, out: Path) -> float:
    """Seconds for a copy of a directory's files that has reached the disk."""
    start = time.perf_counter()
    out.mkdir()
    for file in sorted(base.iterdir()):
        shutil.copyfile(file, out / file.name)
        with (out / file.name).open("rb") as written:
            os.fsync(written.fileno())
    return time.perf_counter() - start


def section(
    title: str, model: Path, base: Path, rounds: int, drop: bool = False, format_: str = "nf4"
) -> str:
    """Copies and exports of a base in turn, from the disk if ``drop``; round 0 is not counted."""
    copies, exports, moved = [], [], 0
    out = model / "out"
    for left in model.glob("out*"):  # by a run that was killed, which an export would go on from
        shutil.rmtree(left)

    def same_state() -> None:
        settle(model, free=4 << 30)
        remember((model / "factors").iterdir())
        (forget if drop else remember)(base.iterdir())

    for _ in range(rounds + 1):
        same_state()
        copies.append(run_copy(base, out))
        shutil.rmtree(out)
        seconds, moved = run_export(model, base, out, same_state, format_)
        exports.append(seconds)
        shutil.rmtree(out)
    size = sum(file.stat().st_size for file in base.iterdir())
    heading = f"## {title}, {size / 1e9:.2f} GB, {moved} codes moved"
    ways = {"copy of the base's files (limit)": copies[1:], "export": exports[1:]}
    rows = [
        (name, f"{median(seconds):.2f}", f"{median(seconds) / median(copies[1:]):.2f} ×",
         " ".join(f"{s:.2f}" for s in seconds))
        for name, seconds in ways.items()
    ]  # fmt: skip
    return f"{heading}\n\n{table(('way', 'median s', 'of the copy', 'all s'), rows)}"


def laid_out_anew(base: Path, out: Path) -> None:
    """The same base in files of safetensors' own writer."""
    with whole_directory(out) as folder:
        for file in base.glob("*.safetensors"):
            save_file(load_file(file), folder / file.name, metadata={"format": "pt"})
        for file in (*base.glob("*config.json"), *base.glob("*.index.json")):
            shutil.copyfile(file, folder / file.name)


def main() -> None:
    args = parser(__doc__, "bench/export.md", rounds=5, needs_model=True).parse_args()
    model = args.model.resolve()
    made, anew = model / "base-4bit-fast", model / "base-4bit-laid-out"
    if not made.is_dir():
        command = merge(model, model / "base", made, "--format", "nf4", "--svd", "fast")
        watch(command, THREADS)
    if not anew.is_dir():
        laid_out_anew(made, anew)
    parts = [
        section("4-bit base in the page cache", model, made, args.rounds),
        section("The same, by safetensors' writer", model, anew, args.rounds),
        section("4-bit base from the disk", model, made, args.rounds, drop=True),
        section("16-bit base, quantized on the way", model, model / "base", args.rounds),
        section("The same, merged into bf16", model, model / "base", args.rounds, format_="bf16"),
    ]
    (model / "filler").unlink()
    write_page(args.out, __doc__, *parts)


if __name__ == "__main__":
    main()
