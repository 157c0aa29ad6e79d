"""What tables use of a run's settings and sessions, whose other fields are anything."""

from pydantic import BaseModel, ConfigDict, Field

from evaluator.checked import Name


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Arm(_Part):
    name: Name
    seed: int | None = None
    batch_size: int | None = None


class _Decoding(_Part):
    samples: int = Field(ge=1, lt=2**31)
    temperature: float
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | Name | None = None
    max_new_tokens: int | None = None
    stop: Name | None = None
    seed: int
    batch_size: int | None = None


class _Equivalence(_Part):
    margin: float = Field(gt=0, lt=1)
    looks: int = Field(default=1, ge=1)


class SettingsFields(_Part):
    """Of the settings in ``run.json``."""

    name: Name
    decoding: _Decoding
    equivalence: _Equivalence
    arms: list[_Arm] = []
    compute_dtype: Name = ""


class _Machine(_Part):
    cpu: Name
    cpus: int
    device: Name
    gpu: Name | None = None


class _Sandbox(_Part):
    rung: Name | None = None


class SessionFields(_Part):
    """Of a session in ``environment.json``."""

    command: Name
    versions: dict[Name, Name | None]
    machine: _Machine
    sandbox: _Sandbox
