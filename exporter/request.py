"""What the user asks of an export. Each option is declared here, and nowhere else.

The command line (:mod:`exporter.merge_options`) takes it from the fields; a format takes those that
are fields of its own (:class:`exporter.formats.format.Format`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from exporter.errors import RequestError
from exporter.formats.format import Format
from exporter.formats.registry import format_with
from exporter.quantize.requantize import RequantizeMethod
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
    """What the command line shows of a field; ``read`` makes its value of the text."""

    help: str
    read: Callable[[str], Any] | None = None
    only_on: bool = False


@dataclass(frozen=True)
class Goal:
    """What a choice of the exporter is aimed at, and how the export is checked."""

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
        """The requested format, with the options that it takes; RequestError if there is none."""
        return format_with(vars(self))

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
