"""What the user asks of an export. Each option is declared here, and nowhere else.

The command line takes names, types, defaults and help from the fields
(:mod:`exporter.merge_options`); a format takes the options that are fields of its own
(:class:`exporter.formats.format.Format`).
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import torch

from exporter.errors import RequestError
from exporter.formats.format import Format
from exporter.formats.registry import FORMATS, format_named
from exporter.quantize.methods import RequantizeMethod
from tinylora import DeltaOptions

FoldOnto = Literal["auto", "dequantized", "original"]
AdapterDtype = Literal["fp32", "fp16"]


def parse_size(text: str) -> int:
    """Bytes meant by ``5GB`` (powers of ten), ``5GiB`` (powers of two) or a plain number.

    >>> parse_size("2GB"), parse_size("1.5 KiB"), parse_size("77")
    (2000000000, 1536, 77)
    """
    units = {"": 1, "B": 1}
    for power, letter in enumerate("KMGT", start=1):
        units |= {letter: 1000**power, f"{letter}B": 1000**power, f"{letter}IB": 1024**power}
    number = text.strip().rstrip("KMGTIBkmgtib ")
    unit = text.strip()[len(number) :].strip().upper()
    try:
        return int(float(number) * units[unit])
    except (ValueError, KeyError, OverflowError) as error:
        raise RequestError(
            f"{text!r} is no size; give bytes or a number with KB, MB, GB, KiB, MiB or GiB"
        ) from error


@dataclass(frozen=True)
class Option:
    """What the command line shows of a field, and how it reads it.

    Attributes:
        help: A line of help.
        read: Makes the value of the text that is given; None: the type says how.
        only_on: Whether the flag has no ``--no-`` form.
    """

    help: str
    read: Callable[[str], Any] | None = None
    only_on: bool = False


@dataclass(frozen=True)
class Goal:
    """What a choice that the exporter makes itself is aimed at, and how the export is checked.

    Texts are described in :mod:`exporter.compare.prompts`, the retention in
    :mod:`exporter.compare.retention`, the residual in :mod:`exporter.choose.trial_model`. Where a
    field is None nothing is asked for.
    """

    prompts: Annotated[
        Path | None, Option("Calibration texts: for nf4-mixed, auto, calibrated.")
    ] = None
    check_prompts: Annotated[Path | None, Option("Other texts, to measure the retention on.")] = (
        None
    )
    require_retention: Annotated[
        float | None, Option("Fail (exit 1) if less of the effect is kept on --check-prompts.")
    ] = None
    target_residual: Annotated[
        float | None, Option("For nf4-mixed and auto; 0: restored, 1: the base.")
    ] = None
    max_bytes: Annotated[
        int | None, Option("For nf4-mixed: most bytes of weights, such as 2.5GB.", parse_size)
    ] = None
    without_peft: Annotated[
        bool, Option("For auto: only what loads without peft.", only_on=True)
    ] = False


@dataclass(frozen=True)
class ExportRequest:
    """One export, as asked for; each field says in its annotation what it is.

    ``format`` is a name of :mod:`exporter.formats.registry`, or ``auto``: the first that reaches
    the goal's residual, of ``nf4``, ``nf4-embedded``, ``nf4-mixed``, ``bf16``, ``fp16``, ``fp32``.

    ``requantize``: ``preserve`` keeps the base's scales byte for byte and moves a code only where
    that is nearer; ``recompute`` quantizes anew, as PEFT does; ``calibrated`` chooses codes by
    their effect on the goal's texts.

    ``fold_onto``: the ``dequantized`` 4-bit weights or the ``original`` 16-bit ones.

    ``adapter_dtype``: ``fp16`` rounds each number by at most 2⁻¹¹ of its size; PEFT rounds to the
    compute dtype of a 4-bit base anyway when it loads the pair.

    ``device``: sums are rounded otherwise on another one, so a few codes on an edge may fall the
    other way. ``options`` say how the delta is rebuilt. ``keep`` are the modules that ``nf4-mixed``
    stores in bf16; empty: chosen by the goal.
    """

    base: Annotated[Path, Option("Base checkpoint: 16-bit or bitsandbytes 4-bit.")]
    artifact: Annotated[Path, Option("tiny_lora_v.pt, or a PEFT directory (TinyLoRA, LoRA).")]
    out: Annotated[Path, Option("Directory to make.")]
    format: Annotated[str, Option("auto: the first within the target, 4-bit ones first.")] = "nf4"
    requantize: Annotated[RequantizeMethod, Option("How nf4 and nf4-mixed choose codes.")] = (
        "preserve"
    )
    options: DeltaOptions = DeltaOptions()
    fold_onto: Annotated[
        FoldOnto, Option("What dense formats add to; auto: what training had.")
    ] = "auto"
    require_capture: Annotated[
        float | None, Option("Fail (exit 1) if less of the delta is kept.")
    ] = None
    overwrite: Annotated[bool, Option("Replace an earlier export.")] = False
    factor_store: Annotated[Path | None, Option("Keep factors here.")] = None
    adapter_dtype: Annotated[
        AdapterDtype, Option("Of lora and nf4-embedded; fp16 takes half the bytes.")
    ] = "fp32"
    max_shard_size: Annotated[
        int | None, Option("Such as 4GB; default: the base's layout.", parse_size)
    ] = None
    device: Annotated[str, Option("cpu, cuda or cuda:N: for fast factors, folds and measures.")] = (
        "cpu"
    )
    goal: Goal = Goal()
    keep: tuple[str, ...] = ()

    @property
    def layout(self) -> Format:
        """The requested format, with the options that it takes.

        Raises:
            RequestError: There is no such format.
        """
        found = format_named(self.format)
        return found(**{field.name: getattr(self, field.name) for field in fields(found)})

    @property
    def is_auto(self) -> bool:
        """Whether the format is to be chosen."""
        return self.format == "auto"

    @property
    def is_calibrated(self) -> bool:
        """Whether codes are chosen for the output of the model on texts."""
        return self.requantize == "calibrated"

    @property
    def leaves_open(self) -> bool:
        """Whether something is to be decided, for which every module's delta is needed."""
        return self.is_auto or self.leaves_modules_open or self.is_calibrated

    @property
    def leaves_modules_open(self) -> bool:
        """Whether the modules to keep in 16 bits are to be chosen."""
        return not self.is_auto and self.layout.chooses_modules and not self.keep


def check_request(request: ExportRequest) -> None:
    """Refuse options that contradict each other.

    Raises:
        RequestError: With what is allowed and what was given.
    """
    _one_of("requantize", request.requantize, get_args(RequantizeMethod))
    _one_of("fold_onto", request.fold_onto, get_args(FoldOnto))
    _one_of("adapter_dtype", request.adapter_dtype, get_args(AdapterDtype))
    _check_paths(request)
    _check_device(request.device)
    _check_limits(request)
    _check_goal(request)
    if not request.is_auto:
        _check_format(request, request.layout)


def _check_format(request: ExportRequest, layout: Format) -> None:
    """Refuse options that the format does not take, but for values that change nothing."""
    for option, harmless in _HARMLESS.items():
        value = getattr(request, option)
        if value not in harmless and not layout.takes(option):
            takers = [name for name, known in FORMATS.items() if known.takes(option)]
            given = option if option == "keep" else f"--{option.replace('_', '-')} {value}"
            raise RequestError(f"{given} applies to {', '.join(takers)}, not to {layout.name}")
    if layout.adapter is not None and request.options.numerics == "trainer":
        raise RequestError(
            f"--numerics trainer cannot be stored as {layout.name}: an adapter holds factors, "
            "and the trainer's roundings happen to their product; use fp32, or a merged format"
        )
    if request.goal.check_prompts is not None and not layout.standalone:
        raise RequestError(
            f"--check-prompts: a {layout.name} export does not load by itself, so there is nothing "
            "to compare"
        )


_HARMLESS: dict[str, tuple[object, ...]] = {
    "requantize": ("preserve",),
    "fold_onto": ("auto", "dequantized"),  # 4-bit weights and adapters stand on those anyway
    "adapter_dtype": ("fp32",),
    "keep": ((),),
}


def _check_device(name: str) -> None:
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise RequestError(f"--device {name!r} is unknown; expected cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise RequestError(
            f"--device {name}: torch sees {torch.cuda.device_count()} CUDA devices here; use cpu, "
            "or a torch that was built for this machine's GPU"
        )


def _check_limits(request: ExportRequest) -> None:
    check_share("--require-capture", request.require_capture)
    check_share("--require-retention", request.goal.require_retention)
    target = request.goal.target_residual
    if target is not None and not 0 < target < 1:
        raise RequestError(f"--target-residual {target}: expected a number above 0 and below 1")
    for name, size in (
        ("--max-shard-size", request.max_shard_size),
        ("--max-bytes", request.goal.max_bytes),
    ):
        if size is not None and size < 1:
            raise RequestError(f"{name} {size}: expected at least 1 byte")


def check_share(option: str, share: float | None) -> None:
    """Refuse a least share that is none.

    Raises:
        RequestError: Naming the option.
    """
    if share is not None and not 0 < share <= 1:
        raise RequestError(f"{option} {share}: expected a share above 0, at most 1")


def _check_goal(request: ExportRequest) -> None:
    goal, is_auto = request.goal, request.is_auto
    mixed = not is_auto and request.layout.chooses_modules
    if is_auto:
        if goal.target_residual is None:
            raise RequestError("--format auto needs --target-residual, such as 0.1")
        if request.requantize != "preserve" or request.fold_onto != "auto" or request.keep:
            raise RequestError("--format auto chooses --requantize, --fold-onto and keep itself")
    if request.leaves_modules_open:
        if goal.prompts is None:
            raise RequestError(
                f"--format {request.format} needs --prompts: texts on which each module's effect "
                "is measured"
            )
        if goal.target_residual is None and goal.max_bytes is None:
            raise RequestError(
                f"--format {request.format} needs --target-residual, --max-bytes, or both"
            )
    if request.is_calibrated and goal.prompts is None:
        raise RequestError("--requantize calibrated needs --prompts: texts to calibrate on")
    if goal.target_residual is not None and not (is_auto or mixed):
        raise RequestError("--target-residual applies to --format auto and nf4-mixed")
    if goal.max_bytes is not None and not mixed:
        raise RequestError("--max-bytes applies to --format nf4-mixed")
    if goal.require_retention is not None and goal.check_prompts is None:
        raise RequestError(
            "--require-retention needs --check-prompts: texts on which the retention is measured"
        )
    if goal.prompts is not None and not request.leaves_open:
        raise RequestError(
            f"--prompts has no use with --format {request.format} --requantize "
            f"{request.requantize}; it goes with nf4-mixed, auto and --requantize calibrated"
        )
    if goal.without_peft and not is_auto:
        raise RequestError("--without-peft applies to --format auto")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise RequestError(f"{name} {value!r} is unknown; expected one of {', '.join(allowed)}")


def _check_paths(request: ExportRequest) -> None:
    base, out = request.base.resolve(), request.out.resolve()
    if base == out or base in out.parents or out in base.parents:
        raise RequestError(
            f"{out}: the output may not be, contain or lie in the base directory {base}; choose a "
            "directory beside it"
        )
    for name, path in (  # with an earlier export that is replaced, they would be gone
        ("artifact", request.artifact),
        ("factor store", request.factor_store),
        ("file of --prompts", request.goal.prompts),
        ("file of --check-prompts", request.goal.check_prompts),
    ):
        if path is not None and out in (path.resolve(), *path.resolve().parents):
            raise RequestError(
                f"{out}: the output may not be or contain the {name} {path}; move that out of "
                "there, or choose another --out"
            )
