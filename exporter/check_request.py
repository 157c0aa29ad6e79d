"""Refuses requests that cannot be met, before anything is read."""

from collections.abc import Iterator
from typing import get_args

import torch

from exporter.errors import RequestError
from exporter.formats.registry import FORMATS
from exporter.quantize.requantize import RequantizeMethod
from exporter.request import AdapterDtype, ExportRequest, FoldOnto

# Options that a format may not take, and their values that change nothing.
_HARMLESS: dict[str, tuple[object, ...]] = {
    "requantize": ("preserve",),
    "fold_onto": ("auto", "dequantized"),  # 4-bit weights and adapters stand on those anyway
    "adapter_dtype": ("fp32",),
    "keep": ((),),
}


def check_request(request: ExportRequest) -> None:
    """Refuse options that contradict each other, with a RequestError."""
    for problem in _problems(request):
        raise RequestError(problem)


def check_share(option: str, share: float | None) -> None:
    """Refuse a least share that is none, with a RequestError."""
    if share is not None and not 0 < share <= 1:
        raise RequestError(f"{option} {share}: expected a share above 0, at most 1")


def _problems(request: ExportRequest) -> Iterator[str]:
    for name, allowed in (
        ("requantize", get_args(RequantizeMethod)),
        ("fold_onto", get_args(FoldOnto)),
        ("adapter_dtype", get_args(AdapterDtype)),
    ):
        if (value := getattr(request, name)) not in allowed:
            yield f"{name} {value!r} is unknown; expected one of {', '.join(allowed)}"
    yield from _path_problems(request)
    yield from _device_problems(request.device)
    yield from _limit_problems(request)
    yield from _goal_problems(request)
    if not request.is_auto:
        yield from _format_problems(request)


def _path_problems(request: ExportRequest) -> Iterator[str]:
    base, out = request.base.resolve(), request.out.resolve()
    if base == out or base in out.parents or out in base.parents:
        yield f"{out}: may not be, contain or lie in the base {base}; choose another --out"
    for name, path in (  # with an earlier export that is replaced, they would be gone
        ("artifact", request.artifact),
        ("factor store", request.factor_store),
        ("file of --prompts", request.goal.prompts),
        ("file of --check-prompts", request.goal.check_prompts),
    ):
        if path is not None and out in (path.resolve(), *path.resolve().parents):
            yield f"{out}: may not be or contain the {name} {path}; move it or change --out"


def _device_problems(name: str) -> Iterator[str]:
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        yield f"--device {name!r} is unknown; expected cpu, cuda or cuda:N"
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        yield f"--device {name}: torch sees {found} CUDA devices here; use cpu, or a torch for CUDA"


def _limit_problems(request: ExportRequest) -> Iterator[str]:
    goal = request.goal
    check_share("--require-capture", request.require_capture)
    check_share("--require-retention", goal.require_retention)
    if goal.target_residual is not None and not 0 < goal.target_residual < 1:
        yield f"--target-residual {goal.target_residual}: expected a number above 0 and below 1"
    sizes = {"--max-shard-size": request.max_shard_size, "--max-bytes": goal.max_bytes}
    for name, size in sizes.items():
        if size is not None and size < 1:
            yield f"{name} {size}: expected at least 1 byte"


def _goal_problems(request: ExportRequest) -> Iterator[str]:
    goal, is_auto, name = request.goal, request.is_auto, request.format
    mixed = not is_auto and request.layout.chooses_modules
    if is_auto and goal.target_residual is None:
        yield "--format auto needs --target-residual, such as 0.1"
    left_alone = ("preserve", "auto", ())
    if is_auto and (request.requantize, request.fold_onto, request.keep) != left_alone:
        yield "--format auto chooses --requantize, --fold-onto and keep itself"
    if request.leaves_modules_open and goal.prompts is None:
        yield f"--format {name} needs --prompts: texts on which each module's effect is measured"
    if request.leaves_modules_open and goal.target_residual is None and goal.max_bytes is None:
        yield f"--format {name} needs --target-residual, --max-bytes, or both"
    if request.is_calibrated and goal.prompts is None:
        yield "--requantize calibrated needs --prompts: texts to calibrate on"
    if goal.target_residual is not None and not (is_auto or mixed):
        yield "--target-residual applies to --format auto and nf4-mixed"
    if goal.max_bytes is not None and not mixed:
        yield "--max-bytes applies to --format nf4-mixed"
    if goal.require_retention is not None and goal.check_prompts is None:
        yield "--require-retention needs --check-prompts: texts on which the retention is measured"
    if goal.prompts is not None and not request.leaves_open:
        yield "--prompts has no use here; it goes with nf4-mixed, auto and --requantize calibrated"
    if goal.without_peft and not is_auto:
        yield "--without-peft applies to --format auto"


def _format_problems(request: ExportRequest) -> Iterator[str]:
    layout = request.layout
    for option, harmless in _HARMLESS.items():
        value = getattr(request, option)
        if value not in harmless and not layout.takes(option):
            takers = ", ".join(name for name, known in FORMATS.items() if known.takes(option))
            given = option if option == "keep" else f"--{option.replace('_', '-')} {value}"
            yield f"{given} applies to {takers}, not to {layout.name}"
    if layout.adapter is not None and request.options.numerics == "trainer":
        yield (
            f"--numerics trainer cannot be stored as {layout.name}: it rounds the product of the "
            "factors; use fp32, or a merged format"
        )
    if request.goal.check_prompts is not None and not layout.standalone:
        yield f"--check-prompts: a {layout.name} export does not load by itself"
