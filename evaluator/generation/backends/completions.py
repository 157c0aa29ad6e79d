"""completions: texts that were made elsewhere, one row a text of a file of JSON lines.

A row is ours or of an output file of OpenAI's batches:

    {"problem": "P1001", "sample": 0, "completion": "...", "finish_reason": "stop"}
    {"custom_id": "P1001/0", "response": {"status_code": 200, "body": {...}}, "error": null}
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evaluator.checked import LARGEST_WHOLE
from evaluator.config.run_config import ArmConfig
from evaluator.errors import CompletionsError, SuiteError, shown
from evaluator.generation.backend import Asked, Backend, Completion, LoadedModel, ModelRequest
from evaluator.generation.openai_form import read_answer
from evaluator.generation.prompts import Batch
from evaluator.store.run_directory import ArmFacts
from evaluator.suites.importers.rows import Row, read_rows
from tinylora.files.digests import file_sha256

_Texts = dict[tuple[str, int], Completion]
_LISTED = 5


class CompletionsBackend(Backend):
    """Texts of a file; it has no model, so neither logits nor the noise of the other arms."""

    source = "completions"
    by_row = True

    def describe(self, arm: ArmConfig, asked: Asked, files: object) -> ArmFacts:
        """Read the file; CompletionsError where it is not one text for each prompt and sample."""
        path = _path(arm)
        texts = _read(arm, asked)
        wanted = [
            (p.problem, sample) for p in asked.prompts for sample in range(asked.decoding.samples)
        ]
        if missing := [key for key in wanted if key not in texts]:
            first = ", ".join(f"{problem}/{sample}" for problem, sample in missing[:_LISTED])
            first += " …" if len(missing) > _LISTED else ""
            raise CompletionsError(
                f"arm {arm.name}: {path}: {len(missing)} of {len(wanted)} texts are missing "
                f"(problem/sample): {first}. Make them from what tinylora-eval prompts writes, and "
                "add their lines"
            )
        return ArmFacts(arm.name, str(arm.kind), file_sha256(path), None, 0, None, None)

    @contextmanager
    def load(self, request: ModelRequest) -> Iterator["_FileTexts"]:
        """See :meth:`Backend.load`; CompletionsError where the file has changed meanwhile."""
        path = _path(request.arm)
        texts = _read(request.arm)
        if file_sha256(path) != request.facts.digest:
            raise CompletionsError(f"{path}: has changed since the run began; start it again")
        yield _FileTexts(texts)


BACKEND = CompletionsBackend()


class _FileTexts(LoadedModel):
    def __init__(self, texts: Mapping[tuple[str, int], Completion]) -> None:
        self._texts = texts

    def complete(self, batch: Batch, drafts: object = None) -> Sequence[Completion]:
        return [self._texts[row.prompt.problem, row.sample] for row in batch]


def _path(arm: ArmConfig) -> Path:
    assert arm.completions is not None  # it is the backend's source, which is checked
    return arm.completions


def _read(arm: ArmConfig, asked: Asked | None = None) -> _Texts:
    """All texts by problem and sample; CompletionsError names the first row that is none."""
    path, texts = _path(arm), _Texts()
    try:
        for row in read_rows(path):
            try:
                key, completion = _text(row)
                if asked is not None and key[0] not in asked.suite:
                    raise ValueError(f"problem {key[0]!r:.80} is not in the suite; delete the line")
                samples = None if asked is None else asked.decoding.samples
                if samples is not None and not 0 <= key[1] < samples:
                    count = f"sample {key[1]} (from 0), but decoding.samples is {samples}"
                    raise ValueError(f"{count}; delete the line or change that")
                if key in texts:
                    twice = f"problem {key[0]!r:.80}, sample {key[1]} is there a second time"
                    raise ValueError(f"{twice}; keep one of the lines")
            except ValueError as error:
                raise CompletionsError(f"arm {arm.name}: {path}, {row.where}: {error}") from error
            texts[key] = completion
    except SuiteError as error:  # the file itself
        raise CompletionsError(f"arm {arm.name}: {error}") from error
    return texts


def _text(row: Row) -> tuple[tuple[str, int], Completion]:
    """One row's key and text; a ValueError says what is wrong with it."""
    if row.fault:
        raise ValueError(f"{row.fault}; delete the line and make its text again")
    if "custom_id" in row.values:
        return _batch_row(row.values)
    problem, sample = row.values.get("problem"), row.values.get("sample", 0)
    text, reason = row.values.get("completion"), row.values.get("finish_reason", "stop")
    count = row.values.get("token_count", 0)
    if type(problem) not in (str, int) or type(sample) is not int or type(count) is not int:
        raise ValueError(
            "expected 'problem' (an id), 'sample' and 'token_count' (whole numbers), found "
            f"{shown(problem)}, {shown(sample)} and {shown(count)}"
        )
    if not 0 <= count <= LARGEST_WHOLE:
        raise ValueError(f"'token_count' is {shown(count)}, expected a number of tokens")
    if not isinstance(text, str):
        raise ValueError(f"'completion' is {shown(text)}, expected a text; make it again")
    if reason not in ("stop", "length"):
        raise ValueError(f"'finish_reason' is {shown(reason)}, expected stop or length")
    return (str(problem), sample), Completion(text, count, reason)


def _batch_row(values: Mapping[str, Any]) -> tuple[tuple[str, int], Completion]:
    name, response, error = (values.get(field) for field in ("custom_id", "response", "error"))
    problem, slash, sample = name.rpartition("/") if isinstance(name, str) else ("", "", "")
    if not slash or not (sample.isascii() and sample.isdigit() and len(sample) < 19):
        raise ValueError(f"'custom_id' is {shown(name)}, expected problem/sample, as P1001/0")
    status = response.get("status_code", 200) if isinstance(response, dict) else None
    if error or status != 200:
        raise ValueError(
            f"{name}: the engine failed (status {shown(status)}, error {shown(error)}); delete the "
            "line and ask for it again"
        )
    try:
        return (problem, int(sample)), read_answer(response["body"] if response else None)
    except (ValueError, KeyError) as wrong:
        raise ValueError(f"{name}: response.body: {wrong}; ask for it again") from wrong
