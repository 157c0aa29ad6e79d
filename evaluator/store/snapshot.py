"""What the page shows beside the records, kept in the run's directory when the run starts.

So the page can be made again when suite or checkpoints are gone. Older runs have none of it.
"""

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from evaluator.checked import Number, Text, checked
from evaluator.errors import ModelError, RecordsError
from evaluator.store.run_directory import RunDirectory
from evaluator.suites.problem import Problem
from tinylora.files.json_text import read_object
from tinylora.files.whole_file import replace_file

_STATEMENT_CHARACTERS = 100_000
TEST_CHARACTERS = 300
_LAYER = re.compile(r"\.([0-9]{1,6})\.")


class ShownProblem(NamedTuple):
    """What people need to see of a problem: its title, which may be empty, and its tests.

    ``tests``: by name the beginnings of ``input`` and ``output``.
    """

    title: Text
    statement: Text
    tests: Mapping[Text, Mapping[Text, Text]]


class _ModuleResidual(NamedTuple):
    """What the stored weights of a module miss of its delta, and the norm of the latter."""

    module: str
    residual: Annotated[Number, Field(ge=0)]
    delta_norm: Annotated[Number, Field(gt=0)]


class LayerResidual(NamedTuple):
    """‖E − Δ‖ / ‖Δ‖ over all modules of a layer: what its stored weights miss of the delta."""

    layer: int
    residual: float


def keep_sources(
    directory: RunDirectory, problems: Sequence[Problem], checkpoints: Mapping[str, Path]
) -> None:
    """Write statements, and what the checkpoints (directories by arm) say of their modules."""
    # ASCII, so that lone surrogates of test data become JSON escapes
    lines = "".join(json.dumps(_shown(problem)) + "\n" for problem in problems)
    replace_file(directory.statements, lines.encode("ascii"))
    modules = {arm: _module_residuals(path / "fidelity.json") for arm, path in checkpoints.items()}
    replace_file(directory.fidelity, json.dumps(modules, indent=1).encode())


def read_problems(run: RunDirectory) -> Mapping[str, ShownProblem]:
    """Title, statement and beginnings of tests by problem; empty where the run has none."""
    path, problems = run.statements, {}
    for number, line in enumerate(path.read_bytes().splitlines() if path.is_file() else (), 1):
        with _damage_named(f"{path}, line {number}"):
            row = json.loads(line)
            tests = {n: {k: t[k] for k in ("input", "output")} for n, t in row["tests"].items()}
            problems[row["id"]] = checked(ShownProblem, (row["title"], row["statement"], tests))
    return problems


def read_layers(run: RunDirectory) -> Mapping[str, Sequence[LayerResidual]]:
    """Residuals by layer, for each arm that has any."""
    if not run.fidelity.is_file():
        return {}
    with _damage_named(str(run.fidelity)):
        modules = read_object(run.fidelity, RecordsError)
        rows = checked(dict[str, list[_ModuleResidual]], modules)
        arms = {arm: _layers(found) for arm, found in rows.items()}
    return {arm: layers for arm, layers in arms.items() if layers}


@contextmanager
def _damage_named(where: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RecordsError(
            f"{where}: damaged ({error!r}); delete the file, the report is then made without it"
        ) from error


def _shown(problem: Problem) -> dict[str, Any]:
    cut = TEST_CHARACTERS
    tests = {t.name: {"input": t.input[:cut], "output": t.output[:cut]} for t in problem.tests}
    statement = problem.statement[:_STATEMENT_CHARACTERS]
    return {"id": problem.id, "title": problem.title, "statement": statement, "tests": tests}


def _module_residuals(path: Path) -> list[dict[str, Any]]:
    """Module, residual and norm of the delta, where the exporter wrote them and Δ is not 0."""
    try:
        rows = read_object(path, ModelError)["modules"] if path.is_file() else []
        rows = [row for row in rows if row["residual"] is not None and row["delta_norm"]]
        fields = _ModuleResidual._fields
        kept = (checked(_ModuleResidual, tuple(row[name] for name in fields)) for row in rows)
        return [one._asdict() for one in kept]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path}: expected a list 'modules' with module, residual and delta_norm ({error!r}); "
            "export the checkpoint again, or delete the file"
        ) from error


def _layers(rows: Sequence[_ModuleResidual]) -> list[LayerResidual]:
    """Combine modules to layers: squares of the misses add up, and so do those of the deltas."""
    by_layer: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        residual, norm = row.residual, row.delta_norm
        if (number := _LAYER.search(row.module)) is not None:
            by_layer[int(number[1])].append((residual * norm, norm))
    return [
        LayerResidual(layer, math.hypot(*misses) / math.hypot(*norms))
        for layer, modules in sorted(by_layer.items())
        for misses, norms in [zip(*modules, strict=True)]
    ]
