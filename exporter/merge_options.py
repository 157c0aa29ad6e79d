"""The options of ``tinylora-export merge``, made from the fields of a request."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from exporter.formats.registry import FORMATS
from exporter.request import ExportRequest, Option
from tinylora import DeltaOptions
from tinylora.adapters.upstream.placement import read_placement

KEYWORD = inspect.Parameter.KEYWORD_ONLY

# The fields of a class that knows nothing of this command line.
_DELTA_OPTIONS: Mapping[str, Option] = {
    "formula": Option("The trainer's formula; auto: only where the file proves it."),
    "rng": Option("Where training drew P; auto: on the device that the file names."),
    "svd": Option("auto: exact for full, whose signs only it keeps; fast for diagonal."),
    "placement": Option(
        "For a model that was split over GPUs: hf_device_map, JSON or a file.", read_placement
    ),
    "trained_on": Option("The base's weights in training; auto: as the adapter says."),
    "numerics": Option("trainer: round the delta to bf16 wherever training did."),
}


def with_merge_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of :class:`ExportRequest` as keywords, beside its own."""
    own = inspect.signature(command).parameters.values()
    mine = [p.replace(kind=KEYWORD) for p in own if p.kind is not inspect.Parameter.VAR_KEYWORD]
    parameters = [parameter for _, parameter, _ in _declared()] + mine
    command.__dict__["__signature__"] = inspect.Signature(parameters)
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def request_of(given: Mapping[str, Any]) -> ExportRequest:
    """The request that options of the command line make."""
    values: dict[type, dict[str, Any]] = {ExportRequest: {}, DeltaOptions: {}}
    for owner, parameter, option in _declared():
        value = given[parameter.name]
        if option.read is not None and value is not None:
            value = option.read(value)
        values[owner][parameter.name] = value
    return ExportRequest(**values[ExportRequest], options=DeltaOptions(**values[DeltaOptions]))


def _declared() -> Iterator[tuple[type, inspect.Parameter, Option]]:
    """Every option: the class whose field it is, and what typer is told of it."""
    for owner in (ExportRequest, DeltaOptions):
        hints = get_type_hints(owner, include_extras=True)
        for field in fields(owner):
            kind, option = hints[field.name], _DELTA_OPTIONS.get(field.name)
            if get_origin(kind) is Annotated:
                kind, option = get_args(kind)
            if option is None:
                continue
            if option.read is not None:
                kind = str if field.default is MISSING else str | None
            if field.name == "format":
                kind = Literal.__getitem__((*FORMATS, "auto"))
            flags = (f"--{field.name.replace('_', '-')}",) if option.only_on else ()
            default = inspect.Parameter.empty if field.default is MISSING else field.default
            yield (
                owner,
                inspect.Parameter(
                    field.name,
                    KEYWORD,
                    default=default,
                    annotation=Annotated[kind, typer.Option(*flags, help=option.help)],
                ),
                option,
            )
