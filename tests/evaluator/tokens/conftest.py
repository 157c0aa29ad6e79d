"""A small run whose completions are there, for the token level."""

from types import SimpleNamespace

import pytest

from tests.evaluator.conftest import program, statement

MAX_TOKENS = 150


@pytest.fixture(scope="session")
def arms(chat_base, chat_artifact, tmp_path_factory):
    """Base, reference, an A/A arm, two exports, and the base as an export that lost all."""
    from exporter import ExportRequest, export
    from tests.evaluator.whole_runs import merged, two_arms

    folder = tmp_path_factory.mktemp("exports")
    for format in ("nf4-embedded", "nf4"):
        export(ExportRequest(chat_base, chat_artifact, folder / format, format=format))
    base, restored = two_arms(chat_base, chat_artifact, load="nf4")
    exports = [merged("embedded", folder / "nf4-embedded"), merged("nf4", folder / "nf4")]
    lost = merged("lost", chat_base, load="nf4")
    return [base, restored, restored | {"name": "again", "seed": 5}, *exports, lost]


@pytest.fixture(scope="session")
def setting(arms, chat_base):
    """``setting(out, arms=…, **token_level)``: the arguments of the stage but its progress."""
    from evaluator.config.run_config import RunConfig
    from evaluator.generation.checkpoints import find_checkpoint
    from evaluator.generation.prepare import Prepared
    from evaluator.generation.prompts import Prompt
    from evaluator.store.records import GenerationRecord
    from evaluator.store.run_directory import RunDirectory
    from tinylora.models.chat import load_tokenizer

    tokenizer = load_tokenizer(chat_base)
    prompts, generations = [], []
    for k in range(6):
        text = f"<|user|>{statement(k)}<|assistant|>"
        ids = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
        prompts.append(Prompt(f"S{k}", text, ids))
        for name in ("base", "restored"):
            wrote = program(k, "+" if name == "restored" else "-")
            generations.append(
                GenerationRecord(name, f"S{k}", 0, wrote, 0, "length" if k == 3 else "stop", 0.0)
            )

    def arguments(out, arms=arms, compute_dtype="float32", **token_level):
        content = {"name": "tiny", "suite": "unused", "out": str(out), "arms": arms}
        content["token_level"] = {"max_tokens": MAX_TOKENS, **token_level}
        config = RunConfig.model_validate({**content, "compute_dtype": compute_dtype})
        checkpoints = {arm.name: find_checkpoint(arm) for arm in config.arms}
        out.mkdir(exist_ok=True)
        prepared = Prepared(config, None, checkpoints, tuple(prompts), None)
        return RunDirectory(out), prepared, tuple(generations)

    return arguments


def measure(arguments, progress=lambda *_: None, written=()):
    """Run the stage; its records. Models of ``written`` arms write completions before it."""
    from evaluator.generation.processes import Processes
    from evaluator.generation.stage import open_model
    from evaluator.store.records import TokenRecord, append, read
    from evaluator.tokens.stage import token_stage

    directory, prepared, generations = arguments
    arms = {arm.name: arm for arm in prepared.config.arms}
    with token_stage(directory, prepared, progress) as stage:
        if written:
            append(directory.generations, generations)
            meanwhile = stage.while_writing(Processes())
            for name in written:
                with open_model(arms[name], prepared, directory) as model:
                    meanwhile(arms[name], model)
        stage.finish(prepared, generations)
    return read(directory.token_level, TokenRecord.from_row)


@pytest.fixture(scope="session")
def measured(setting, tmp_path_factory):
    """Arguments, records and progress of one uninterrupted stage; not to be changed."""
    arguments, seen = setting(tmp_path_factory.mktemp("run") / "out"), []
    records = measure(arguments, lambda *event: seen.append(event))
    return SimpleNamespace(arguments=arguments, records=records, seen=seen)
