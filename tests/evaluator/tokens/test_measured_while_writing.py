"""Models that are compared with the reference while they are in memory to write completions."""

from types import SimpleNamespace

import pytest
import torch

from evaluator.errors import ModelError
from evaluator.generation.processes import Processes
from evaluator.generation.stage import open_model
from evaluator.store.records import append
from evaluator.tokens.stage import measured_while_writing
from tests.evaluator.tokens.conftest import measure


def write_and_measure(arguments):
    """Every arm's model, one after the other, as while it writes; False where none is measured."""
    directory, prepared, generations = arguments
    append(directory.generations, generations)
    processes, silent = Processes(), lambda *_: None
    with measured_while_writing(directory, prepared, processes, silent) as meanwhile:
        if meanwhile is None:
            return False
        for name in ("restored", "base", "again", "embedded", "nf4", "lost"):
            arm = next(arm for arm in prepared.config.arms if arm.name == name)
            with open_model(arm, prepared, directory) as model:
                meanwhile(arm, model)
    return True


def test_models_measured_while_they_write_are_not_loaded_again(setting, measured, tmp_path):
    arguments, seen = setting(tmp_path / "out"), []
    assert write_and_measure(arguments)
    assert measure(arguments, lambda *event: seen.append(event)) == measured.records
    assert seen == []  # there was nothing left to do
    files = [one[0].token_level.read_bytes() for one in (arguments, measured.arguments)]
    assert files[0] == files[1]
    assert not arguments[0].spool.exists()


@pytest.mark.parametrize("error", [torch.OutOfMemoryError(), ModelError("logits are not finite")])
def test_what_fails_while_a_model_writes_is_measured_afterwards(setting, measured, tmp_path, error):
    def fail(texts):
        raise error

    arguments = setting(tmp_path / "out")
    directory, prepared, generations = arguments
    append(directory.generations, generations)
    silent, failing = lambda *_: None, SimpleNamespace(predict=fail)
    with measured_while_writing(directory, prepared, Processes(), silent) as meanwhile:
        for name in ("restored", "base"):
            meanwhile(next(arm for arm in prepared.config.arms if arm.name == name), failing)
    assert not directory.token_level.exists()
    assert measure(arguments) == measured.records


@pytest.mark.parametrize("changes", [{"compute_dtype": "bfloat16"}, {"enabled": False}])
def test_models_that_are_not_what_is_compared_are_loaded_for_it(setting, tmp_path, changes):
    assert not write_and_measure(setting(tmp_path / "out", **changes))
