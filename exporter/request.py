"""What the user asks of an export."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from exporter.errors import RequestError
from exporter.formats import Format, FormatName, format_named
from tinylora import DeltaOptions

RequantizeMethod = Literal["preserve", "recompute"]
FoldOnto = Literal["dequantized", "original"]


@dataclass(frozen=True)
class ExportRequest:
    """One export, as asked for.

    Attributes:
        base: Directory of the base checkpoint, 16-bit or bitsandbytes 4-bit.
        artifact: Upstream's ``tiny_lora_v.pt``, or the directory of a PEFT TinyLoRA adapter.
        out: Directory to make.
        format: Output format, see :mod:`exporter.formats`.
        requantize: How ``nf4`` picks codes: ``preserve`` keeps the base's scales byte for byte and
            moves a code only where that is nearer; ``recompute`` quantizes anew, as PEFT does.
        options: How the delta is rebuilt (formula, random stream, SVD, numerics).
        fold_onto: What dense formats add the delta to: the ``dequantized`` 4-bit weights, which the
            adapter saw in training, or the ``original`` 16-bit ones.
        require_capture: Least share of the delta that the stored weights must keep, ⟨E,Δ⟩/⟨Δ,Δ⟩;
            None asks for nothing.
        overwrite: Whether an earlier export at ``out`` may be replaced.
        factor_store: Directory in which singular factors are kept for the next artifact.
        max_shard_size: Largest shard, in bytes; None keeps the base's layout.
    """

    base: Path
    artifact: Path
    out: Path
    format: FormatName = "nf4"
    requantize: RequantizeMethod = "preserve"
    options: DeltaOptions = DeltaOptions()
    fold_onto: FoldOnto = "dequantized"
    require_capture: float | None = None
    overwrite: bool = False
    factor_store: Path | None = None
    max_shard_size: int | None = None

    @property
    def layout(self) -> Format:
        """Description of the requested format."""
        return format_named(self.format)


def check_request(request: ExportRequest) -> None:
    """Refuse options that contradict each other.

    Raises:
        RequestError: With what is allowed and what was given.
    """
    layout = request.layout
    _one_of("requantize", request.requantize, get_args(RequantizeMethod))
    _one_of("fold_onto", request.fold_onto, get_args(FoldOnto))
    if request.fold_onto == "original" and layout.weights != "dense":
        raise RequestError(
            f"--fold-onto original applies to the dense formats, not to {layout.name}: 4-bit "
            "weights and adapters always stand on the quantized base"
        )
    if request.requantize == "recompute" and layout.name != "nf4":
        raise RequestError(
            f"--requantize recompute applies to nf4 alone; {layout.name} rounds no code"
        )
    if layout.adapter and request.options.numerics == "trainer":
        raise RequestError(
            f"--numerics trainer cannot be stored as {layout.name}: an adapter holds factors, "
            "and the trainer's roundings happen to their product; use fp32, or a merged format"
        )
    capture = request.require_capture
    if capture is not None and not 0 < capture <= 1:
        raise RequestError(f"--require-capture {capture}: expected a share above 0, at most 1")
    if request.max_shard_size is not None and request.max_shard_size < 1:
        raise RequestError(f"--max-shard-size {request.max_shard_size}: expected at least 1 byte")
    _check_paths(request.base, request.out)


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


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise RequestError(f"{name} {value!r} is unknown; expected one of {', '.join(allowed)}")


def _check_paths(base: Path, out: Path) -> None:
    base, out = base.resolve(), out.resolve()
    if base == out or base in out.parents or out in base.parents:
        raise RequestError(
            f"{out}: the output may not be, contain or lie in the base directory {base}; choose a "
            "directory beside it"
        )
