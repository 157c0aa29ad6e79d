"""What the user asks of an export."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch

from exporter.errors import RequestError
from exporter.formats.formats import Format, FormatName, format_named
from tinylora import DeltaOptions

RequantizeMethod = Literal["preserve", "recompute", "calibrated"]
FoldOnto = Literal["auto", "dequantized", "original"]
AdapterDtype = Literal["fp32", "fp16"]
RequestedFormat = Literal[FormatName, "auto"]


@dataclass(frozen=True)
class Goal:
    """What a choice that the exporter makes itself is aimed at.

    Attributes:
        prompts: Calibration texts (:mod:`exporter.compare.prompts`), on which the effect of each
            module is measured.
        check_prompts: Other texts, on which the finished export is compared with the restored
            model; the retention goes into manifest and model card.
        require_retention: Least retention on the check prompts (:mod:`exporter.compare.retention`);
            None asks for nothing.
        target_residual: Output residual to reach, see :mod:`exporter.choose.effect`.
        max_bytes: Most bytes that the weight files of ``nf4-mixed`` may take.
        without_peft: Whether ``auto`` leaves out the formats that need ``peft`` to load.
    """

    prompts: Path | None = None
    check_prompts: Path | None = None
    require_retention: float | None = None
    target_residual: float | None = None
    max_bytes: int | None = None
    without_peft: bool = False


@dataclass(frozen=True)
class ExportRequest:
    """One export, as asked for.

    Attributes:
        base: Directory of the base checkpoint, 16-bit or bitsandbytes 4-bit.
        artifact: Upstream's ``tiny_lora_v.pt``, or the directory of a PEFT TinyLoRA adapter.
        out: Directory to make.
        format: Output format, see :mod:`exporter.formats.formats`; ``auto`` is the first that
            reaches the goal's residual, of ``nf4``, ``nf4-embedded``, ``nf4-mixed``, ``bf16``,
            ``fp16`` and ``fp32``.
        requantize: How ``nf4`` picks codes: ``preserve`` keeps the base's scales byte for byte and
            moves a code only where that is nearer; ``recompute`` quantizes anew, as PEFT does;
            ``calibrated`` chooses codes by their effect on the goal's texts.
        options: How the delta is rebuilt (formula, random stream, SVD, numerics).
        fold_onto: What dense formats add the delta to: the ``dequantized`` 4-bit weights or the
            ``original`` 16-bit ones; ``auto`` those of training.
        require_capture: Least share of the delta that the stored weights must keep, ⟨E,Δ⟩/⟨Δ,Δ⟩;
            None asks for nothing.
        overwrite: Whether an earlier export at ``out`` may be replaced.
        factor_store: Directory in which singular factors are kept for the next artifact.
        adapter_dtype: How ``lora`` and ``nf4-embedded`` store the LoRA pair. ``fp16`` takes half
            the bytes and rounds each number by at most 2⁻¹¹ of its size; PEFT rounds to the compute
            dtype of a 4-bit base anyway when it loads the pair.
        max_shard_size: Largest shard, in bytes; None keeps the base's layout.
        device: Where fast factors are computed and weights are folded and measured, in torch's
            words: ``cpu``, ``cuda``, ``cuda:1``. Sums are rounded otherwise on another device, so a
            few codes on an edge may fall the other way.
        goal: For ``nf4-mixed``, ``auto`` and ``calibrated``.
        keep: Modules that ``nf4-mixed`` stores in bf16; empty: chosen by the goal.
    """

    base: Path
    artifact: Path
    out: Path
    format: RequestedFormat = "nf4"
    requantize: RequantizeMethod = "preserve"
    options: DeltaOptions = DeltaOptions()
    fold_onto: FoldOnto = "auto"
    require_capture: float | None = None
    overwrite: bool = False
    factor_store: Path | None = None
    adapter_dtype: AdapterDtype = "fp32"
    max_shard_size: int | None = None
    device: str = "cpu"
    goal: Goal = Goal()
    keep: tuple[str, ...] = ()

    @property
    def layout(self) -> Format:
        """Description of the requested format."""
        return format_named(self.format)

    @property
    def pair_dtype(self) -> torch.dtype:
        """Dtype of a LoRA pair."""
        return torch.float16 if self.adapter_dtype == "fp16" else torch.float32


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
    if request.format == "auto":
        return
    layout = request.layout
    if request.fold_onto == "original" and layout.weights != "dense":
        raise RequestError(
            f"--fold-onto original applies to the dense formats, not to {layout.name}: 4-bit "
            "weights and adapters always stand on the quantized base"
        )
    if request.adapter_dtype != "fp32" and not (layout.adapter and layout.method == "LORA"):
        raise RequestError(
            f"--adapter-dtype applies to lora and nf4-embedded; {layout.name} holds no LoRA"
        )
    rounds = layout.merged and layout.weights == "4bit"
    if request.requantize != "preserve" and not rounds:
        raise RequestError(
            f"--requantize {request.requantize} applies to nf4 and nf4-mixed; {layout.name} rounds "
            "no code"
        )
    if layout.adapter and request.options.numerics == "trainer":
        raise RequestError(
            f"--numerics trainer cannot be stored as {layout.name}: an adapter holds factors, "
            "and the trainer's roundings happen to their product; use fp32, or a merged format"
        )


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
    goal = request.goal
    if request.format == "auto":
        if goal.target_residual is None:
            raise RequestError("--format auto needs --target-residual, such as 0.1")
        if request.requantize != "preserve" or request.fold_onto != "auto":
            raise RequestError("--format auto chooses --requantize and --fold-onto itself")
    if request.format == "nf4-mixed" and not request.keep:
        if goal.prompts is None:
            raise RequestError(
                "--format nf4-mixed needs --prompts: texts on which each module's effect is "
                "measured"
            )
        if goal.target_residual is None and goal.max_bytes is None:
            raise RequestError("--format nf4-mixed needs --target-residual, --max-bytes, or both")
    if request.requantize == "calibrated" and goal.prompts is None:
        raise RequestError("--requantize calibrated needs --prompts: texts to calibrate on")
    if goal.target_residual is not None and request.format not in ("auto", "nf4-mixed"):
        raise RequestError("--target-residual applies to --format auto and nf4-mixed")
    if goal.max_bytes is not None and request.format != "nf4-mixed":
        raise RequestError("--max-bytes applies to --format nf4-mixed")
    if goal.check_prompts is not None and request.format in ("lora", "peft-tinylora"):
        raise RequestError(
            f"--check-prompts: a {request.format} export does not load by itself, so there is "
            "nothing to compare"
        )
    if goal.require_retention is not None and goal.check_prompts is None:
        raise RequestError(
            "--require-retention needs --check-prompts: texts on which the retention is measured"
        )
    chooses = request.format == "auto" or (request.format == "nf4-mixed" and not request.keep)
    if goal.prompts is not None and not chooses and request.requantize != "calibrated":
        raise RequestError(
            f"--prompts has no use with --format {request.format} --requantize "
            f"{request.requantize}; it goes with nf4-mixed, auto and --requantize calibrated"
        )
    if request.keep and request.format != "nf4-mixed":
        raise RequestError(f"keep applies to the format nf4-mixed, not to {request.format}")
    if goal.without_peft and request.format != "auto":
        raise RequestError("--without-peft applies to --format auto")


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
