"""The run's configuration: one YAML file, checked field by field; see ``config_file``."""

import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from evaluator.config.config_file import FilePath, ModelName, Section, Several, read_config
from evaluator.config.endpoint_config import HOW_ASKED, EndpointConfig
from evaluator.config.judge_settings import JudgeConfig
from evaluator.config.prompt_config import PromptConfig
from tinylora.adapters.options import FormulaChoice
from tinylora.adapters.upstream.placement import checked_placement, read_placement

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._+-]*$"
Name = Annotated[str, Field(pattern=_NAME, max_length=64)]
Title = Annotated[str, Field(pattern=_NAME, max_length=260)]  # four names, of a bench's run
Device = Annotated[str, Field(pattern=r"^(auto|all|cpu|cuda(:\d+)?)$")]
ComputeDtype = Literal["float32", "bfloat16", "float16"]
# Not written down where it is the default: what was made before there was a choice stays the same.
BACKEND = Field(default="transformers", exclude_if=lambda name: name == "transformers")
MAX_REPETITION_PENALTY = 10.0
MOST_LOOKS = 20  # more than anybody needs, and each loads every model anew
# Field of an arm that says where its texts come from, if not from a model here -> its backend.
BACKEND_OF = {"completions": "completions", "endpoint": "openai"}


class ArmKind(StrEnum):
    """What an arm is in the comparison."""

    BASE = "base"  # no adapter: the control
    RESTORED = "restored"  # base and TinyLoRA at run time: the reference
    MERGED = "merged"  # an exported checkpoint, loaded as its user would load it
    COMPLETIONS = "completions"  # the same where only its texts are here


def _placement(given: Any) -> dict[str, str] | None:
    if given is None:
        return None
    return read_placement(given) if isinstance(given, str) else checked_placement(given)


class AdapterSection(Section):
    """How an adapter's delta is rebuilt; the fields mean what they do in ``DeltaOptions``.

    ``placement`` may also be a JSON file with the device map.
    """

    formula: FormulaChoice = "auto"
    rng: Literal["auto", "cuda", "cpu"] = "auto"
    numerics: Literal["fp32", "trainer"] = "fp32"
    placement: Annotated[dict[str, str] | None, BeforeValidator(_placement)] = None


class ArmConfig(AdapterSection):
    """One model of the comparison.

    Attributes:
        kind: The first ``restored`` arm is the reference; a second one is an A/A repeat.
        model: Checkpoint directory, or a hub's name of a model in the cache of Hugging Face or
            ModelScope; an arm has this or one of the next two.
        completions: File of texts that were made elsewhere; docs/engines.md describes its rows.
        endpoint: Server that has the model.
        load: ``nf4`` quantizes a 16-bit checkpoint while loading, with the trainer's settings.
        artifact: ``tiny_lora_v.pt``, or the directory of a PEFT adapter, of a ``restored`` arm.
        seed: Replaces the seed of the decoding; a repeat then draws independently of the others.
        batch_size: Replaces that of the decoding; a repeat then shows what rounding alone flips.
    """

    name: Name
    kind: Annotated[ArmKind, Field(strict=False)]
    model: ModelName = Field(default="", exclude_if=lambda model: not model)
    completions: FilePath | None = Field(default=None, exclude_if=lambda path: path is None)
    endpoint: EndpointConfig | None = Field(default=None, exclude_if=lambda one: one is None)
    load: Literal["auto", "nf4"] = "auto"
    artifact: FilePath | None = None
    seed: int | None = None
    batch_size: int | None = Field(default=None, ge=1, exclude_if=lambda size: size is None)
    backend: str | None = Field(default=None, exclude_if=lambda name: name is None)

    @model_validator(mode="before")
    @classmethod
    def _backend_of_its_source(cls, content: Any) -> Any:
        if isinstance(content, dict):
            for field, backend in BACKEND_OF.items():
                if content.get(field) is not None:
                    return {"backend": backend, **content}
        return content

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        sources = ("model", *BACKEND_OF)
        if len(given := [name for name in sources if getattr(self, name)]) != 1:
            raise ValueError(
                f"expected one of {', '.join(sources)}, found {' and '.join(given) or 'none'}"
            )
        if self.kind is ArmKind.COMPLETIONS and self.completions is None:
            raise ValueError("an arm of kind completions needs the field completions")
        if self.kind is ArmKind.RESTORED and self.endpoint is not None:
            raise ValueError(
                "an endpoint cannot be an arm of kind restored: serve the merged export and "
                "compare it as kind merged, with the reference here (model and artifact)"
            )
        return self

    @model_validator(mode="after")
    def _artifact_where_needed(self) -> Self:
        here = self.completions is None  # else whoever made the texts had it
        if self.kind is ArmKind.RESTORED and self.artifact is None and here:
            raise ValueError("an arm of kind restored needs the field artifact")
        if self.artifact is not None and not (self.kind is ArmKind.RESTORED and here):
            found = f"this one is {self.kind}" if here else "this one has its texts from a file"
            raise ValueError(f"artifact belongs to arms of kind restored, {found}")
        fields = AdapterSection.model_fields.items()
        changed = [name for name, field in fields if getattr(self, name) != field.default]
        if changed and self.artifact is None:
            raise ValueError(
                f"{' and '.join(changed)}: how an adapter's delta is rebuilt, and this arm has no "
                "artifact; leave it out"
            )
        return self


class DecodingConfig(Section):
    """How completions are drawn; ``temperature: 0`` is greedy decoding.

    The repetition penalty is as transformers has it; ``from_model`` takes it from the models'
    ``generation_config.json``. None is 1, no penalty, or ``from_model`` under a prompt preset.
    ``stop: closing_fence`` ends a text behind its first whole program in a fenced block.
    """

    samples: int = Field(default=1, ge=1)
    temperature: float = Field(default=0.0, ge=0.0, le=10.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    top_k: int = Field(default=0, ge=0)
    repetition_penalty: float | Literal["from_model"] | None = None
    max_new_tokens: int = Field(default=1024, ge=1)
    stop: Literal["closing_fence"] | None = None
    batch_size: int = Field(default=16, ge=1)
    seed: int = 0

    @property
    def penalty(self) -> float:
        """The repetition penalty as a number: 1, which changes nothing, where none is given."""
        return self.repetition_penalty if isinstance(self.repetition_penalty, float) else 1.0

    @field_validator("repetition_penalty", mode="plain")
    @classmethod
    def _is_a_penalty(cls, value: Any) -> Any:
        if value is None or value == "from_model":
            return value
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 < value <= MAX_REPETITION_PENALTY:
            raise ValueError(
                f"expected a number above 0 and up to {MAX_REPETITION_PENALTY:g}, or from_model"
            )
        return float(value)

    @model_validator(mode="after")
    def _greedy_has_one_sample(self) -> Self:
        if self.temperature == 0 and self.samples > 1:
            raise ValueError("greedy decoding writes one text: samples > 1 needs a temperature > 0")
        return self


class EquivalenceConfig(Section):
    """What the equivalence test is to show, fixed before the run.

    The margin δ: 0.02 is two points. With several ``looks`` the run stops at the first one at which
    every arm is decided; all its p-values and intervals then hold over all looks.
    """

    margin: float = Field(default=0.02, gt=0.0, lt=1.0)
    looks: int = Field(default=1, ge=1, le=MOST_LOOKS)


class TokenLevelConfig(Section):
    """The comparison of next-token predictions on the reference's own completions.

    Models are compared in float32 on their stored weights, 4 bytes a weight, on the run's device or
    on one of its own. What the output layer reads of reference and control lies on the disk
    meanwhile; their logits, where they are more than that layer makes of it.
    """

    enabled: bool = True
    max_tokens: int = Field(default=4096, ge=1)
    device: Device | None = None


class RunConfig(Section):
    """Everything that decides a run's records.

    ``device: all`` spreads each model over all GPUs, for one that is larger than each of them.
    ``compute_dtype`` float32 makes texts independent of the batch to the last near-tie; it does not
    touch stored values. SVD factors are kept in ``out`` where there is no ``factor_store``.
    ``limit`` takes only so many problems, the suite's first. With
    ``drafts`` arms read the reference's completions, and write only from the first token on that
    they choose otherwise: equal texts, up to rounding, in less time.
    """

    name: Title
    suite: FilePath
    limit: int | None = Field(default=None, ge=1, exclude_if=lambda count: count is None)
    out: FilePath
    arms: Several[ArmConfig]
    prompt: PromptConfig = PromptConfig()
    decoding: DecodingConfig = DecodingConfig()
    compute_dtype: ComputeDtype = "float32"
    device: Device = "auto"
    factor_store: FilePath | None = None
    equivalence: EquivalenceConfig = EquivalenceConfig()
    token_level: TokenLevelConfig = TokenLevelConfig()
    judge: JudgeConfig = JudgeConfig()
    backend: str = BACKEND
    drafts: bool = True

    def reference(self) -> ArmConfig | None:
        """The arm that others are compared with: the first restored one."""
        return next((arm for arm in self.arms if arm.kind is ArmKind.RESTORED), None)

    @property
    def penalty_of_models(self) -> bool:
        """Whether the repetition penalty is the models' own."""
        penalty = self.decoding.repetition_penalty
        return penalty == "from_model" or (penalty is None and self.prompt.preset is not None)


def load_config(path: Path, changes: Sequence[str] = ()) -> RunConfig:
    """Read and check a configuration; changes and errors as ``config_file.read_config``."""
    return read_config(path, RunConfig, changes)


def deciding_fields(config: RunConfig) -> dict[str, Any]:
    """The fields that decide the records; some newer ones only where they are not the default.

    Paths are left out, as a run pins the digests of what lies there; so is the token level, whose
    records name the tokens that they belong to.
    """
    hidden: dict[str, Any] = {
        "out": True,
        "suite": True,
        "factor_store": True,
        "arms": {
            "__all__": {"model": True, "artifact": True, "completions": True, "endpoint": HOW_ASKED}
        },
        "judge": {"workers", "testlib_path"},
        "token_level": True,
        "drafts": True,
        "prompt": config.prompt == PromptConfig() or {"preset"},
    }
    if config.equivalence.looks == 1:
        hidden["equivalence"] = {"looks"}
    hidden["decoding"] = {"stop"} if config.decoding.stop is None else set()
    if config.decoding.repetition_penalty in (None, 1.0):
        hidden["decoding"].add("repetition_penalty")
    fields: dict[str, Any] = json.loads(config.model_dump_json(exclude=hidden))
    for arm in fields["arms"]:
        if arm.get("backend") == config.backend:  # said twice
            del arm["backend"]
    fields["judge"]["testlib_sha256"] = config.judge.settings(unsafe=False).testlib_sha256()
    return fields
