"""What the page shows beside the records, kept in the run's directory when the run starts.

``statements.jsonl`` holds title, statement and the beginning of every test; ``fidelity.json`` the
exporter's residual by module, for each arm that has one. So the page can be made again when the
suite or the checkpoints are gone. Runs made before these files existed have a page without them.
"""

import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evaluator.errors import ModelError, RecordsError
from evaluator.generation.checkpoints import Checkpoint
from evaluator.suites.problem import Problem
from evaluator.suites.suite import Suite
from tinylora.files.whole_file import replace_file

STATEMENTS = "statements.jsonl"
FIDELITY = "fidelity.json"
_STATEMENT_CHARACTERS = 100_000
_TEST_CHARACTERS = 300
_LAYER = re.compile(r"\.(\d+)\.")


@dataclass(frozen=True)
class ShownTest:
    """The beginning of a test's input and answer."""

    input: str
    output: str


@dataclass(frozen=True)
class ShownProblem:
    """What people need to see of a problem.

    Attributes:
        title: May be empty.
        statement: As the suite has it.
        tests: By name.
    """

    title: str
    statement: str
    tests: Mapping[str, ShownTest]


@dataclass(frozen=True)
class LayerResidual:
    """What the stored weights of one layer miss of the delta.

    Attributes:
        layer: Its number.
        residual: ‖E − Δ‖ / ‖Δ‖ over all modules of the layer.
        worst: Name of the module with the largest residual.
        worst_residual: Of that module.
    """

    layer: int
    residual: float
    worst: str
    worst_residual: float


def keep_sources(folder: Path, suite: Suite, checkpoints: Mapping[str, Checkpoint]) -> None:
    """Write ``statements.jsonl`` and ``fidelity.json``.

    Args:
        folder: The run's directory.
        suite: Its problems.
        checkpoints: By arm.

    Raises:
        ModelError: A checkpoint's ``fidelity.json`` has another form than the exporter writes.
    """
    # ASCII, so that lone surrogates of test data become JSON escapes
    lines = "".join(json.dumps({"id": p.id, **_shown(p)}) + "\n" for p in suite.problems)
    replace_file(folder / STATEMENTS, lines.encode("ascii"))
    modules = {
        arm: _module_residuals(checkpoint.directory / "fidelity.json")
        for arm, checkpoint in checkpoints.items()
    }
    replace_file(folder / FIDELITY, json.dumps(modules, indent=1).encode())


def read_problems(folder: Path) -> Mapping[str, ShownProblem]:
    """Read ``statements.jsonl``; empty where the run has none.

    Raises:
        RecordsError: It is damaged.
    """
    path = folder / STATEMENTS
    if not path.is_file():
        return {}
    problems = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            row = json.loads(line)
            tests = {name: ShownTest(**test) for name, test in row["tests"].items()}
            problems[row["id"]] = ShownProblem(row["title"], row["statement"], tests)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RecordsError(f"{path}, line {number}: {_damaged(error)}") from error
    return problems


def read_layers(folder: Path) -> Mapping[str, Sequence[LayerResidual]]:
    """Read ``fidelity.json``: residuals by layer, for each arm that has any.

    Raises:
        RecordsError: It is damaged.
    """
    path = folder / FIDELITY
    if not path.is_file():
        return {}
    try:
        arms = {arm: _layers(rows) for arm, rows in json.loads(path.read_bytes()).items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordsError(f"{path}: {_damaged(error)}") from error
    return {arm: layers for arm, layers in arms.items() if layers}


def _damaged(error: Exception) -> str:
    return f"damaged ({error!r}); delete the file, the report is then made without it"


def _shown(problem: Problem) -> dict[str, Any]:
    tests = {
        test.name: ShownTest(test.input[:_TEST_CHARACTERS], test.output[:_TEST_CHARACTERS])
        for test in problem.tests
    }
    return asdict(ShownProblem(problem.title, problem.statement[:_STATEMENT_CHARACTERS], tests))


def _module_residuals(path: Path) -> list[dict[str, Any]]:
    """Module, residual and norm of the delta, where the exporter wrote them and Δ is not 0."""
    if not path.is_file():
        return []
    try:
        rows = [
            (str(row["module"]), float(residual), float(norm))
            for row in json.loads(path.read_bytes())["modules"]
            if (residual := row["residual"]) is not None and (norm := row["delta_norm"])
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path}: expected a list 'modules' with module, residual and delta_norm ({error!r}); "
            "export the checkpoint again, or delete the file"
        ) from error
    return [
        {"module": module, "residual": residual, "delta_norm": norm}
        for module, residual, norm in rows
        if math.isfinite(residual) and math.isfinite(norm)
    ]


def _layers(rows: Sequence[Mapping[str, Any]]) -> list[LayerResidual]:
    """Combine modules to layers: squares of the misses add up, and so do those of the deltas."""
    by_layer: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        if (number := _LAYER.search(row["module"])) is not None:
            by_layer[int(number[1])].append(row)
    layers = []
    for layer, modules in sorted(by_layer.items()):
        worst = max(modules, key=lambda row: float(row["residual"]))
        norm = math.hypot(*(row["delta_norm"] for row in modules))
        miss = math.hypot(*(row["residual"] * row["delta_norm"] for row in modules))
        name = worst["module"].rpartition(f".{layer}.")[2]
        layers.append(LayerResidual(layer, miss / norm, name, worst["residual"]))
    return layers
