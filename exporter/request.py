"""What the user asks of an export. Each option is declared here, and nowhere else.

The command line (:mod:`exporter.merge_options`) takes it from the fields; a format takes those that
are fields of its own (:class:`exporter.formats.format.Format`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from exporter.errors import RequestError
from exporter.formats.registry import FORMATS, format_named, format_with
from exporter.quantize.method import RequantizeMethod
from tinylora import DeltaOptions

if TYPE_CHECKING:
    from exporter.formats.format import Format

FoldOnto = Literal["auto", "dequantized", "original"]
AdapterDtype = Literal["fp32", "fp16"]
GgufDtype = Literal["f32", "bf16", "f16"]

# Options that a format may not take, and their values that change nothing.
_HARMLESS: dict[str, tuple[object, ...]] = {
    "requantize": ("preserve",),
    "fold_onto": ("auto", "dequantized"),  # 4-bit weights and adapters stand on those anyway
    "adapter_dtype": ("fp32",),
    "gguf_dtype": ("f32",),
    "keep": ((),),
}


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
class ExportRequest:
    """One export, as asked for; each field says in its annotation what it is.

    ``format`` is a name of :mod:`exporter.formats.registry`; where none is given, the smallest that
    keeps the delta exactly and loads from one directory. ``auto``: the first that reaches
    ``target_residual``, of ``nf4`` (in every way of ``requantize``), ``nf4-embedded``,
    ``nf4-mixed`` (calibrated), ``bf16``, ``fp16``, ``fp32``: only dense ones after training on
    16-bit weights, nothing calibrated without ``prompts``, and no ``nf4-embedded`` with
    ``without_peft`` or the trainer's numerics.

    ``requantize``: ``preserve`` keeps the base's scales byte for byte and moves a code only where
    that is nearer; ``recompute`` quantizes anew, as PEFT does; ``calibrated`` chooses codes by
    their effect on ``prompts``.

    ``fold_onto``: the ``dequantized`` 4-bit weights or the ``original`` 16-bit ones.

    ``adapter_dtype``: ``fp16`` rounds each number by at most 2⁻¹¹ of its size; PEFT rounds to the
    compute dtype of a 4-bit base anyway when it loads the pair.

    ``device``: sums are rounded otherwise on another one, so a few codes on an edge may fall the
    other way. ``options`` say how the delta is rebuilt. ``keep`` are the modules that ``nf4-mixed``
    stores in bf16; empty: chosen.
    """

    base: Annotated[
        Path,
        Option(
            "Base, 16-bit or bitsandbytes 4-bit: a directory, or a name in a hub's cache.",
            Path,
        ),
    ]
    artifact: Annotated[Path, Option("tiny_lora_v.pt, or a PEFT directory (TinyLoRA, LoRA).")]
    out: Annotated[Path, Option("Directory to make.")]
    format: Annotated[str, Option("auto: the first within the target, 4-bit ones first.")] = (
        "nf4-embedded"
    )
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
        AdapterDtype, Option("Of lora, gguf-lora and nf4-embedded; fp16 takes half the bytes.")
    ] = "fp32"
    gguf_dtype: Annotated[
        GgufDtype, Option("Of gguf; bf16 and f16 take half the bytes and round the delta.")
    ] = "f32"
    max_shard_size: Annotated[
        int | None, Option("Such as 4GB; default: the base's layout.", parse_size)
    ] = None
    device: Annotated[
        str,
        Option("cpu, cuda or cuda:N: for fast factors, folds and measures; choices use the CPU."),
    ] = "cpu"
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
    keep: tuple[str, ...] = ()

    @property
    def layout(self) -> "Format":
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
        return not self.is_auto and self.layout.takes("keep") and not self.keep


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
        ("gguf_dtype", get_args(GgufDtype)),
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
    from exporter.output.workspace import beside  # takes a second, and --help asks for no path

    base, out = request.base.resolve(), request.out.resolve()
    if base == out or base in out.parents or out in base.parents:
        yield f"{out}: may not be, contain or lie in the base {base}; choose another --out"
    for taken in beside(out):
        if taken in (base, *base.parents):
            yield f"{base}: the export itself is made at {taken}; choose another --out"
    for name, path in (  # with an earlier export that is replaced, they would be gone
        ("artifact", request.artifact),
        ("factor store", request.factor_store),
        ("file of --prompts", request.prompts),
        ("file of --check-prompts", request.check_prompts),
    ):
        for taken in (out, *beside(out)):
            if path is not None and taken in (path.resolve(), *path.resolve().parents):
                yield f"{taken}: may not be or contain the {name} {path}; move it or change --out"


def _device_problems(name: str) -> Iterator[str]:
    if name == "cpu":
        return
    import torch

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
    check_share("--require-capture", request.require_capture)
    check_share("--require-retention", request.require_retention)
    if request.target_residual is not None and not 0 < request.target_residual < 1:
        yield f"--target-residual {request.target_residual}: expected a number above 0 and below 1"
    sizes = {"--max-shard-size": request.max_shard_size, "--max-bytes": request.max_bytes}
    for name, size in sizes.items():
        if size is not None and size < 1:
            yield f"{name} {size}: expected at least 1 byte"


def _goal_problems(request: ExportRequest) -> Iterator[str]:
    is_auto, name = request.is_auto, request.format
    mixed = request.leaves_modules_open
    if is_auto and request.target_residual is None:
        yield "--format auto needs --target-residual, such as 0.1"
    left_alone = ("preserve", "auto", ())
    if is_auto and (request.requantize, request.fold_onto, request.keep) != left_alone:
        yield "--format auto chooses --requantize, --fold-onto and keep itself"
    if is_auto and request.gguf_dtype != "f32":
        yield f"--gguf-dtype {request.gguf_dtype} applies to gguf, not to auto"
    if mixed and request.prompts is None:
        yield f"--format {name} needs --prompts: texts on which each module's effect is measured"
    if mixed and request.target_residual is None and request.max_bytes is None:
        yield f"--format {name} needs --target-residual, --max-bytes, or both"
    if request.is_calibrated and request.prompts is None:
        yield "--requantize calibrated needs --prompts: texts to calibrate on"
    if request.target_residual is not None and not (is_auto or mixed):
        yield "--target-residual applies to --format auto, and to nf4-mixed without keep"
    if request.max_bytes is not None and not mixed:
        yield "--max-bytes applies to --format nf4-mixed without keep"
    if request.require_retention is not None and request.check_prompts is None:
        yield "--require-retention needs --check-prompts: texts on which the retention is measured"
    if request.prompts is not None and not request.leaves_open:
        yield "--prompts has no use here; it goes with nf4-mixed, auto and --requantize calibrated"
    if request.without_peft and not is_auto:
        yield "--without-peft applies to --format auto"


def _format_problems(request: ExportRequest) -> Iterator[str]:
    layout = request.layout
    for option, harmless in _HARMLESS.items():
        value = getattr(request, option)
        if value not in harmless and not layout.takes(option):
            takers = ", ".join(name for name in FORMATS if format_named(name).takes(option))
            given = option if option == "keep" else f"--{option.replace('_', '-')} {value}"
            yield f"{given} applies to {takers}, not to {layout.name}"
    if request.max_shard_size is not None and not layout.for_transformers:
        yield f"--max-shard-size: {layout.name} writes one file"
    if not layout.merged and request.options.numerics == "trainer":
        yield (
            f"--numerics trainer cannot be stored as {layout.name}: it rounds the product of the "
            "factors; use fp32, or a merged format"
        )
    if request.check_prompts is not None and not layout.for_transformers:
        yield f"--check-prompts: transformers does not load a {layout.name} export by itself"
