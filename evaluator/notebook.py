"""Runs from Python and notebooks: make one, or open one, and have its numbers as pandas frames."""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from evaluator.config.run_config import RunConfig, load_config
from evaluator.report.results import read_summary
from evaluator.report.sentences import describe
from evaluator.report.summary import RunSummary
from evaluator.report.tables import arms_frame, problems_frame
from evaluator.report.token_tables import token_frame
from evaluator.run import run
from evaluator.store.records import GenerationRecord, Record, VerdictRecord, read
from evaluator.store.run_directory import RunDirectory
from tinylora.terminal import progress_bars


@dataclass(frozen=True)
class Run:
    """A run that lies in a directory, with all its numbers; nothing in it is changed."""

    directory: RunDirectory
    summary: RunSummary

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """Read a finished run; RecordsError where it is not finished, or no run."""
        directory = RunDirectory(Path(path))
        return cls(directory, read_summary(directory))

    @cached_property
    def arms(self) -> pd.DataFrame:
        """One row an arm, as in ``tables/arms.csv``."""
        return arms_frame(self.summary)

    @cached_property
    def problems(self) -> pd.DataFrame:
        """One row a problem, with the share of passed samples by arm."""
        return problems_frame(self.summary)

    @cached_property
    def completions(self) -> pd.DataFrame:
        """One row a completion: arm, problem, sample, text, tokens and how they were made."""
        return _frame(read(self.directory.generations, GenerationRecord.from_row))

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """One row a completion: arm, problem, sample, verdict, score, and every test."""
        return _frame(read(self.directory.verdicts, VerdictRecord.from_row))

    @cached_property
    def token_level(self) -> pd.DataFrame | None:
        """One row an arm, KL in nats; None where nothing was compared."""
        return token_frame(self.summary)

    @property
    def comparison(self) -> dict[str, Any]:
        """Statistics by arm: the ``comparisons`` of ``comparison.json``."""
        pairs = [json.loads(json.dumps(asdict(pair))) for pair in self.summary.comparisons]
        return {pair["arm"]: pair for pair in pairs}

    @property
    def findings(self) -> tuple[str, ...]:
        """What the numbers mean, in sentences."""
        return describe(self.summary)


def evaluate(
    config: str | Path | RunConfig, *, overwrite: bool = False, unsafe: bool = False
) -> Run:
    """Make a run, or go on with it, and open it; progress is shown, in notebooks too.

    ``config`` is a run's YAML file, or its content; the rest is as for ``evaluator.run.run``.
    """
    settings = config if isinstance(config, RunConfig) else load_config(Path(config))
    with progress_bars() as progress:
        run(
            settings,
            command=f"evaluate() in {Path(sys.argv[0]).name}",
            overwrite=overwrite,
            unsafe=unsafe,
            progress=progress,
        )
    return Run.open(settings.out)


def _frame(records: Mapping[Any, Record]) -> pd.DataFrame:
    return pd.DataFrame([asdict(record) for record in records.values()])
