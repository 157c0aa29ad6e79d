"""YAML configurations, checked field by field.

Relative paths are resolved against the current directory, so a configuration may be kept anywhere.
"""

import os
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from evaluator.checked import fault
from evaluator.errors import ConfigError
from tinylora.errors import YamlError
from tinylora.files.yaml_text import MAX_BYTES, load_yaml

_Path = TypeVar("_Path", Path, str)
_Section = TypeVar("_Section", bound="Section")


def _can_be_a_path(path: _Path) -> _Path:
    """Refuse what no file system takes: looking for it fails otherwise than by not finding it."""
    if "\0" in str(path):
        raise ValueError("a path cannot hold the character NUL")
    encoded = os.fsencode(path)
    if len(encoded) > 4000 or max(map(len, encoded.split(b"/"))) > 255:
        raise ValueError(f"no path is that long ({len(encoded)} bytes)")
    return path


FilePath = Annotated[Path, Field(strict=False), AfterValidator(_can_be_a_path)]
ModelName = Annotated[str, AfterValidator(_can_be_a_path)]


def _names_differ(items: tuple[Any, ...]) -> tuple[Any, ...]:
    names = [item.name for item in items]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"names must differ, found twice: {', '.join(twice)}")
    return items


_Item = TypeVar("_Item")
# At least one, each with a name of its own.
Several = Annotated[
    tuple[_Item, ...], Field(min_length=1, strict=False), AfterValidator(_names_differ)
]


class Section(BaseModel):
    """Part of a configuration: unknown fields, other types, and NaN and infinity are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def read_config(path: Path, kind: type[_Section], changes: Sequence[str] = ()) -> _Section:
    """Read and check a YAML file of one kind; ConfigError names the file and each field.

    ``changes`` are ``field=value`` in place of what the file says, values as YAML, as in
    ``decoding.samples=4`` and ``arms.0.seed=7``.
    """
    try:
        with path.open("rb") as file:
            content = load_yaml(file.read(MAX_BYTES + 1), str(path))
        if not isinstance(content, dict):
            *most, last = (n for n, field in kind.model_fields.items() if field.is_required())
            raise ConfigError(
                f"{path}: expected a mapping with {', '.join(most)} and {last}, found "
                f"{type(content).__name__}"
            )
        for change in changes:
            _change(content, change)
        return kind.model_validate(content)
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the configuration: {error}") from error
    except YamlError as error:
        raise ConfigError(str(error)) from error
    except ValidationError as error:
        items = error.errors(include_url=False)
        more = f"; and {len(items) - 10} more" if len(items) > 10 else ""
        listed = "; ".join(_problem(item, kind) for item in items[:10])
        raise ConfigError(f"{path}: {listed}{more}") from error


def _change(content: dict[str, Any], change: str) -> None:
    field, is_one, value = change.partition("=")
    *parts, last = field.split(".")
    holder: Any = content
    new = load_yaml(value.encode("utf-8", "surrogateescape"), f"{field}=")
    try:
        for part in parts:
            holder = holder[int(part)] if isinstance(holder, list) else holder.setdefault(part, {})
        if not is_one or not isinstance(holder, dict | list):
            raise ValueError(change)
        key: Any = int(last) if isinstance(holder, list) else last
        holder[key] = new
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"{change!r:.200}: expected field=value with a field of the configuration, such as "
            "decoding.samples=4 or arms.0.seed=7"
        ) from error


def dump_config(config: Section) -> str:
    """The configuration as YAML with every default written out."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _problem(item: Any, kind: type[Section]) -> str:
    where = tuple(item["loc"])
    field = f"{'.'.join(str(part) for part in where) or 'the file':.200}"
    if item["type"] == "extra_forbidden":
        known = sorted(_section(kind, where[:-1]).model_fields)
        close = get_close_matches(str(where[-1]), known, n=1)
        meant = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
        return f"field {field}: there is no such field; {meant}"
    return f"field {field}: {fault(item)}"


def _section(kind: type[Section], where: Sequence[str | int]) -> type[Section]:
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
