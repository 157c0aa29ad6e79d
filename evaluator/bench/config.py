"""The configuration of a bench: every artifact of every base × format × suite × decoding."""

from pathlib import Path
from typing import Literal, Self

from pydantic import model_validator

from evaluator.config.config_file import FilePath, ModelName, Section, Several, read_config
from evaluator.config.judge_settings import JudgeConfig
from evaluator.config.prompt_config import PromptConfig
from evaluator.config.run_config import (
    BACKEND,
    AdapterSection,
    ComputeDtype,
    DecodingConfig,
    Device,
    EquivalenceConfig,
    Name,
    TokenLevelConfig,
)

# Of the exporter's formats, those that load by themselves.
LoadableFormat = Literal[
    "nf4", "nf4-mixed", "nf4-embedded", "bf16", "fp16", "fp32", "auto"
]  # fmt: skip
_OWN_ARMS = ("base", "restored", "repeat")


class BenchArtifact(AdapterSection):
    """One trained adapter, as ``artifact`` of an arm; how it is rebuilt holds for the exports too.

    ``trained_on`` is for the exports alone; the restored arm has the base's ``load``.
    """

    name: Name
    path: FilePath
    trained_on: Literal["auto", "4bit", "16bit"] = "auto"


class BenchBase(Section):
    """A base checkpoint, as ``model`` and ``load`` of an arm, with what was trained on it."""

    name: Name
    model: ModelName
    load: Literal["auto", "nf4"] = "auto"
    artifacts: Several[BenchArtifact]


class BenchFormat(Section):
    """A format that loads by itself, with its options as ``tinylora-export merge`` names them."""

    name: Name = ""
    format: LoadableFormat
    requantize: Literal["preserve", "recompute", "calibrated"] | None = None
    prompts: FilePath | None = None
    check_prompts: FilePath | None = None
    require_retention: float | None = None
    target_residual: float | None = None
    max_bytes: str | None = None
    without_peft: bool = False
    fold_onto: Literal["auto", "dequantized", "original"] | None = None
    adapter_dtype: Literal["fp32", "fp16"] | None = None
    require_capture: float | None = None
    max_shard_size: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _named_as_its_format(cls, content: object) -> object:
        if isinstance(content, dict) and "format" in content:
            return {"name": content["format"], **content}
        return content

    @model_validator(mode="after")
    def _name_is_free(self) -> Self:
        if self.name in _OWN_ARMS:
            raise ValueError(f"the name {self.name} is taken by an arm that every run has")
        return self

    @model_validator(mode="after")
    def _has_what_it_aims_at(self) -> Self:
        """The exporter would refuse it too, but only after whatever is made before it."""
        if self.format == "auto" and self.target_residual is None:
            raise ValueError("auto needs the field target_residual, such as 0.1")
        if self.format == "nf4-mixed" and self.target_residual is None and self.max_bytes is None:
            raise ValueError("nf4-mixed needs the field target_residual, max_bytes, or both")
        if self.prompts is None and (self.format == "nf4-mixed" or self.requantize == "calibrated"):
            what = "calibrated" if self.requantize == "calibrated" else self.format
            raise ValueError(f"{what} needs the field prompts: texts on which effects are measured")
        return self


class BenchSuite(Section):
    """A suite folder or upstream ``.jsonl`` file; its prompt where not as the bench says."""

    name: Name
    path: FilePath
    prompt: PromptConfig | None = None


class BenchDecoding(DecodingConfig):
    """A way to draw completions, with the fields of a run's ``decoding``."""

    name: Name


class BenchConfig(Section):
    """Everything that a bench makes; what is not named here is as in a run.

    ``repeat_seed`` adds an A/A arm ``repeat``: the restored model with this seed, the noise floor.
    """

    name: Name
    out: FilePath
    bases: Several[BenchBase]
    formats: Several[BenchFormat]
    suites: Several[BenchSuite]
    decodings: Several[BenchDecoding]
    prompt: PromptConfig = PromptConfig()
    repeat_seed: int | None = None
    compute_dtype: ComputeDtype = "float32"
    device: Device = "auto"
    equivalence: EquivalenceConfig = EquivalenceConfig()
    token_level: TokenLevelConfig = TokenLevelConfig()
    judge: JudgeConfig = JudgeConfig()
    backend: str = BACKEND


def load_bench(path: Path) -> BenchConfig:
    """Read and check a bench's configuration; errors as ``config_file.read_config``."""
    return read_config(path, BenchConfig)
