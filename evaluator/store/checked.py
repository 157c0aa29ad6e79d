"""Values of a run's files, held against their types: a run may come from anywhere."""

from functools import cache
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    InstanceOf,
    TypeAdapter,
    ValidationError,
)

_Kind = TypeVar("_Kind")


def _encodes(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("is no valid Unicode") from error
    return text


# For ``__pydantic_config__`` of a dataclass.
STRICT_FIELDS = ConfigDict(extra="forbid", allow_inf_nan=False)
Text = InstanceOf[str]  # also with halves of surrogate pairs
Name = Annotated[str, AfterValidator(_encodes)]  # what tables and files are written with
LARGEST_WHOLE = 2**63 - 1  # what tables can hold
Whole = Annotated[int, Field(ge=-LARGEST_WHOLE - 1, le=LARGEST_WHOLE)]
Number = Annotated[float, Field(ge=-1e30, le=1e30)]  # so that sums and squares are finite


def checked(kind: type[_Kind], value: object) -> _Kind:
    """A value as this kind; a ValueError names the place and what was expected there."""
    try:
        found: _Kind = _adapter(kind).validate_python(value)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{place:.100}: {first['msg']:.200}") from error
    return found


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


class _Part(BaseModel):
    """What tables use of a part of the files below; its other fields are anything."""

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
