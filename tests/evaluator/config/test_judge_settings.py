"""Settings of the judge that make sense, and those of special judges."""

from pathlib import Path

import pytest

from evaluator.config.judge_settings import JudgeSettings
from evaluator.errors import ConfigError


@pytest.mark.parametrize(
    "fields",
    [
        {"standard": "c++12"},
        {"workers": 0},
        {"extra_time_factor": 0.5},
        {"wall_multiple": 1.0},
        {"wall_multiple": float("inf")},
        {"extra_time_factor": float("nan")},
        {"output_kib": 0},
        {"testlib_path": Path("/nowhere/testlib.h")},
    ],
)
def test_senseless_settings_are_refused(fields):
    with pytest.raises(ConfigError, match=next(iter(fields))):
        JudgeSettings(**fields)


def test_no_limit_of_compiling_solutions_holds_for_checkers():
    of_solutions = {
        f"compile_{name}": 1 for name in ("cpu_ms", "wall_ms", "memory_kib", "file_kib")
    }
    found, wanted = JudgeSettings(**of_solutions).of_checkers(), JudgeSettings().of_checkers()
    assert [getattr(found, name) for name in of_solutions] == [
        getattr(wanted, name) for name in of_solutions
    ]
    assert wanted.compile_cpu_ms == 60_000
    assert JudgeSettings(checker_compile_cpu_ms=7).of_checkers().compile_cpu_ms == 7
