"""The run's configuration: one YAML file, checked field by field.

Relative paths in it are resolved against the directory in which the command runs, as those of any
other command-line argument are, so a configuration may be kept anywhere.
"""

import json
from collections.abc import Sequence
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from evaluator.errors import ConfigError
from evaluator.judging.judge_settings import JudgeSettings

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._+-]*$"
Name = Annotated[str, Field(pattern=_NAME, max_length=64)]
Title = Annotated[str, Field(pattern=_NAME, max_length=260)]  # four names, of a bench's run
Device = Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")]
ComputeDtype = Literal["float32", "bfloat16", "float16"]


_Config = TypeVar("_Config", bound="Section")


class ArmKind(StrEnum):
    """What an arm is in the comparison."""

    BASE = "base"  # no adapter: the control
    RESTORED = "restored"  # base and TinyLoRA at run time: the reference
    MERGED = "merged"  # an exported checkpoint, loaded as its user would load it


class Section(BaseModel):
    """Part of a configuration: unknown fields, other types, and NaN and infinity are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ArmConfig(Section):
    """One model of the comparison.

    Attributes:
        name: Stands in every record and table.
        kind: Role in the comparison. The first ``restored`` arm is the reference; a second one is
            an A/A repeat.
        model: Checkpoint directory, or a model id of the Hugging Face hub.
        load: ``auto`` takes the checkpoint as it is; ``nf4`` quantizes a 16-bit checkpoint while
            loading, with the trainer's settings.
        artifact: The ``tiny_lora_v.pt`` of a ``restored`` arm, or the directory of a PEFT TinyLoRA
            adapter.
        formula: Form of the delta, as ``tinylora.DeltaOptions`` has it.
        rng: Random stream of the projections, likewise.
        numerics: Arithmetic of the delta, likewise.
        seed: Replaces the seed of the decoding, which makes a repeat independent: the noise floor.
    """

    name: Name
    kind: Annotated[ArmKind, Field(strict=False)]
    model: str
    load: Literal["auto", "nf4"] = "auto"
    artifact: Annotated[Path, Field(strict=False)] | None = None
    formula: Literal["auto", "full", "diagonal"] = "auto"
    rng: Literal["auto", "cuda", "cpu"] = "auto"
    numerics: Literal["fp32", "trainer"] = "fp32"
    seed: int | None = None

    @model_validator(mode="after")
    def _artifact_where_needed(self) -> Self:
        if self.kind is ArmKind.RESTORED and self.artifact is None:
            raise ValueError("an arm of kind restored needs the field artifact")
        if self.kind is not ArmKind.RESTORED and self.artifact is not None:
            raise ValueError(f"artifact belongs to arms of kind restored, this one is {self.kind}")
        return self


class DecodingConfig(Section):
    """How completions are drawn; ``temperature: 0`` is greedy decoding."""

    samples: int = Field(default=1, ge=1)
    temperature: float = Field(default=0.0, ge=0.0, le=10.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    top_k: int = Field(default=0, ge=0)
    max_new_tokens: int = Field(default=1024, ge=1)
    batch_size: int = Field(default=16, ge=1)
    seed: int = 0

    @model_validator(mode="after")
    def _greedy_has_one_sample(self) -> Self:
        if self.temperature == 0 and self.samples > 1:
            raise ValueError("greedy decoding writes one text: samples > 1 needs a temperature > 0")
        return self


class EquivalenceConfig(Section):
    """The margin of the equivalence test, fixed before the run.

    Attributes:
        margin: δ, a difference of pass rates; 0.02 is two points.
    """

    margin: float = Field(default=0.02, gt=0.0, lt=1.0)


class TokenLevelConfig(Section):
    """The comparison of next-token predictions on the reference's own completions.

    Attributes:
        enabled: Whether to make it. Each arm is loaded once more for it.
        max_tokens: Predictions that are compared. The reference's logits of all of them lie on the
            disk meanwhile: 4 bytes a token and vocabulary entry, 2.5 GB for 4096 and 152 000.
    """

    enabled: bool = True
    max_tokens: int = Field(default=4096, ge=1)


class JudgeConfig(Section):
    """How programs are judged; the fields mean what they do in ``JudgeSettings``.

    ``unsafe`` is not among them: it is asked for on the command line, at every start.
    """

    standard: str = "c++14"
    compile_flags: Annotated[tuple[str, ...], Field(strict=False)] = ("-O2", "-DONLINE_JUDGE")
    link_flags: Annotated[tuple[str, ...], Field(strict=False)] = ("-lm",)
    wall_multiple: float = 3.0
    extra_time_factor: float = 1.25
    output_kib: int = 32 << 10
    workers: int | None = None
    strip_freopen: bool = False
    testlib_path: Annotated[Path, Field(strict=False)] | None = None
    checker_standard: str = "c++14"
    checker_flags: Annotated[tuple[str, ...], Field(strict=False)] = ("-O2", "-DONLINE_JUDGE")
    checker_compile_cpu_ms: int = 60_000
    checker_cpu_ms: int = 10_000

    @model_validator(mode="after")
    def _judge_takes_them(self) -> Self:
        self.settings(unsafe=False)
        return self

    def settings(self, *, unsafe: bool) -> JudgeSettings:
        """The judge's own form.

        Raises:
            ConfigError: A value makes no sense.
        """
        return JudgeSettings(**dict(self), unsafe=unsafe)


class RunConfig(Section):
    """Everything that decides a run's records.

    Attributes:
        name: Title of the tables.
        suite: Suite folder or upstream ``.jsonl`` file.
        out: Directory of the run.
        arms: The models; names differ.
        compute_dtype: What the models compute in. float32 makes texts independent of the batch
            to the last near-tie; the checkpoint's stored values are not touched by it.
        device: ``auto`` takes a GPU where there is one.
        factor_store: Directory of SVD factors, such as the exporter's; None: kept in ``out``.
        equivalence: δ.
        token_level: Comparison of predictions.
        judge: Judging.
        decoding: Decoding.
    """

    name: Title
    suite: Annotated[Path, Field(strict=False)]
    out: Annotated[Path, Field(strict=False)]
    arms: Annotated[tuple[ArmConfig, ...], Field(min_length=1, strict=False)]
    decoding: DecodingConfig = DecodingConfig()
    compute_dtype: ComputeDtype = "float32"
    device: Device = "auto"
    factor_store: Annotated[Path, Field(strict=False)] | None = None
    equivalence: EquivalenceConfig = EquivalenceConfig()
    token_level: TokenLevelConfig = TokenLevelConfig()
    judge: JudgeConfig = JudgeConfig()

    @field_validator("arms")
    @classmethod
    def _names_differ(cls, arms: tuple[ArmConfig, ...]) -> tuple[ArmConfig, ...]:
        names = [arm.name for arm in arms]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"each arm needs its own name, found twice: {', '.join(twice)}")
        return arms

    def reference(self) -> ArmConfig | None:
        """The arm that others are compared with: the first restored one."""
        return next((arm for arm in self.arms if arm.kind is ArmKind.RESTORED), None)


def load_config(path: Path) -> RunConfig:
    """Read and check a configuration.

    Raises:
        ConfigError: The file cannot be read, is no YAML, or a field is wrong; the message names
            the file and each field.
    """
    return read_config(path, RunConfig)


def read_config(path: Path, kind: type[_Config]) -> _Config:
    """Read and check a YAML file of one kind.

    Raises:
        ConfigError: As :func:`load_config`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot read the configuration: {error}") from error
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path}: expected a mapping with {_needed(kind)}, found {type(content).__name__}"
        )
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_describe(error, kind)}") from error


def dump_config(config: RunConfig) -> str:
    """The configuration as YAML with every default written out."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def deciding_fields(config: RunConfig) -> dict[str, Any]:
    """The fields that decide the records.

    Paths are left out, as a run pins the digests of what lies there, and so is the number of
    workers. The token level may be made, or made larger, after the rest: its records name the
    tokens that they belong to.
    """
    hidden: dict[str, Any] = {
        "out": True,
        "suite": True,
        "factor_store": True,
        "arms": {"__all__": {"model", "artifact"}},
        "judge": {"workers", "testlib_path"},
        "token_level": True,
    }
    fields: dict[str, Any] = json.loads(config.model_dump_json(exclude=hidden))
    fields["judge"]["testlib_sha256"] = config.judge.settings(unsafe=False).testlib_sha256()
    return fields


def _needed(kind: type[Section]) -> str:
    names = [name for name, field in kind.model_fields.items() if field.is_required()]
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _describe(error: ValidationError, kind: type[Section]) -> str:
    return "; ".join(_problem(item, kind) for item in error.errors(include_url=False))


def _problem(item: Any, kind: type[Section]) -> str:
    where = tuple(item["loc"])
    field = ".".join(str(part) for part in where) or "the file"
    if item["type"] == "extra_forbidden":
        known = sorted(_section(kind, where[:-1]).model_fields)
        close = get_close_matches(str(where[-1]), known, n=1)
        meant = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
        return f"field {field}: there is no such field; {meant}"
    found = item["input"]
    is_scalar = found is None or isinstance(found, str | int | float | bool | Path)
    return f"field {field}: {item['msg']}" + (f", found {found!r}" if is_scalar else "")


def _section(kind: type[Section], where: Sequence[str | int]) -> type[Section]:
    """The kind of section that stands at a place in a file."""
    for part in where:
        if isinstance(part, str) and part in kind.model_fields:
            kind = _section_in(kind.model_fields[part].annotation) or kind
    return kind


def _section_in(annotation: Any) -> type[Section] | None:
    """The section in a field's type, which may be optional, or a tuple of them."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    inner = (_section_in(part) for part in get_args(annotation))
    return next((found for found in inner if found is not None), None)
