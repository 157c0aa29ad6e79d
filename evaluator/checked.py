"""Values of files, held against their types: a suite or a run may come from anywhere."""

from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, InstanceOf, TypeAdapter, ValidationError

from evaluator.errors import shown

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
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError((f"{place:.100}: " if place else "") + fault(first)) from error
    return found


def fault(item: Any) -> str:
    """What one item of a ValidationError says, with the value where it is a single one."""
    if item["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return "there is no such field"
    found = item["input"]
    is_single = found is None or isinstance(found, str | int | float | bool | Path)
    says = item["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    return f"{says:.300}" + (f", found {shown(found)}" if is_single else "")


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
