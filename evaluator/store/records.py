"""Records of a run: one JSON object a line, appended as they are made.

A killed process can leave a torn last line: it is not read, and is cut off before others are
appended. A finished run sorts its files, so that they do not depend on kills, batches or processes.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeVar, get_args

from pydantic import Field

from evaluator.checked import STRICT_FIELDS, Name, Number, Text, Whole, checked
from evaluator.errors import RecordsError
from tinylora.files.whole_file import replace_file

Key = tuple[str, str, int]
FinishReason = Literal["stop", "length"]
Verdict = Literal["AC", "PC", "WA", "RE", "TLE", "MLE", "OLE", "CE", "UKE"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


@dataclass(frozen=True)
class Record:
    """What all records have; samples are counted from 0.

    Compared is what must be equal when the same run is made again: no times, sizes and messages.
    """

    __pydantic_config__ = STRICT_FIELDS

    arm: Text
    problem: Text
    sample: Whole

    @property
    def key(self) -> Key:
        """(arm, problem, sample)."""
        return self.arm, self.problem, self.sample

    @classmethod
    def from_row(cls, row: object) -> Self:
        """Read a line's object; a ValueError where it is another."""
        return checked(cls, row)


_Record = TypeVar("_Record", bound=Record)


@dataclass(frozen=True)
class GenerationRecord(Record):
    """One completion.

    Attributes:
        text: As the tokenizer decodes it, special tokens too, without the end token.
        token_count: Generated tokens, the end token included.
        finish_reason: ``stop`` at an end token, ``length`` at the limit.
        seconds: Wall time of its batch divided by the rows of the batch.
        taken_over: How many tokens were read in the reference's completion and not written anew.
        tokens: Token ids, of the reference only: the others may take them over.
        maker: Digest of model, prompt and decoding; empty in runs of earlier versions.
        plan: Digest of what the run was planned to show, likewise (``plan``).
        engine: What an engine elsewhere says it is: its model, version and fingerprint.
    """

    text: Text
    token_count: Whole
    finish_reason: FinishReason
    seconds: Number = field(compare=False)
    taken_over: Whole = field(default=0, compare=False)
    tokens: tuple[Whole, ...] = field(default=(), compare=False)
    maker: Name = field(default="", compare=False)
    plan: Name = field(default="", compare=False)
    engine: Name = field(default="", compare=False)


@dataclass(frozen=True)
class TestRecord:
    """One test of one program."""

    __test__ = False  # not a test class, whatever pytest thinks of the name
    __pydantic_config__ = STRICT_FIELDS

    name: Text
    verdict: Verdict
    score: Number
    time_ms: Number | None = field(default=None, compare=False)
    memory_kib: Whole | None = field(default=None, compare=False)
    exit_code: Whole | None = field(default=None, compare=False)
    signal: Whole | None = field(default=None, compare=False)
    detail: Text = field(default="", compare=False)


@dataclass(frozen=True)
class VerdictRecord(Record):
    """What the judge says about one completion.

    Attributes:
        verdict: Of the whole program.
        score: 0 … 100.
        code_sha256: Digest of the extracted program; None where there was none.
        how: Rule that found the program in the text.
        reason: Why none was found, else empty.
        detail: For CE and UKE: why.
        subtasks: Points by subtask id.
        choice: What told the program from others in the text; ``only`` where there were none.
    """

    verdict: Verdict
    score: Number
    code_sha256: Name | None
    how: Name
    reason: Text
    compile_message: Text = field(compare=False)
    detail: Text = field(compare=False)
    subtasks: Mapping[Text, Number] = field(compare=False)
    tests: tuple[TestRecord, ...]
    choice: Name = field(default="", compare=False)

    @property
    def was_chosen(self) -> bool:
        """Whether other programs stood in the text, or parts of one."""
        return self.choice not in ("", "only", "in_reasoning")

    @property
    def judge_failed(self) -> bool:
        """Whether the judge itself failed (UKE), on the program or on one of its tests."""
        return "UKE" in (self.verdict, *(test.verdict for test in self.tests))


@dataclass(frozen=True)
class TokenRecord(Record):
    """How far an arm's predictions on one text are from the reference's.

    Those of the reference itself, run in other ways, have names of their own (``repeats``).

    Attributes:
        tokens_sha256: Digest of the text's tokens and of the compared positions.
        same: Positions at which the arm's most likely token is that of the reference.
        kl: KL(reference‖arm) of each compared position, nats, six digits.
        shift_cosine: Of each position, the cosine between what arm and reference add to the base's
            logits, six digits; empty for the control and the reference itself.
        shift_signs: Share of all logits that arm and reference move the same way, mean over
            positions; None where there are no cosines.
    """

    tokens_sha256: Name
    same: Whole
    kl: Annotated[tuple[Number, ...], Field(min_length=1)]
    shift_cosine: tuple[Number, ...] = ()
    shift_signs: Number | None = None

    def __post_init__(self) -> None:
        """Refuse what belongs to no comparison, with a ValueError."""
        if (self.shift_signs is None) != (not self.shift_cosine):
            raise ValueError("shift_signs and shift_cosine go together")


class Repeats(NamedTuple):
    """Names of the reference's records: no arm has such a name.

    ``again`` and ``folded`` are the same function by other arithmetic, in other batches and with
    the adapter in float32 weights; ``computed`` is what the run's own arithmetic makes of it.
    """

    again: str
    folded: str
    computed: str


def repeats(reference: str) -> Repeats:
    """The names for a reference arm."""
    return Repeats(*(f"{reference} ({how})" for how in ("again", "folded", "as run")))


def record_line(record: Record) -> bytes:
    """A record as its fields, in one line."""
    text = json.dumps(asdict(record), ensure_ascii=False)
    # A lone surrogate becomes its JSON escape and is read back as it was.
    return text.encode("utf-8", "backslashreplace") + b"\n"


def append(
    path: Path, records: Sequence[_Record], line: Callable[[_Record], bytes] = record_line
) -> None:
    """Append records, in place of a torn last line, and wait until they are on the disk."""
    with path.open("a+b") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
        file.write(b"".join(map(line, records)))
        file.flush()
        os.fsync(file.fileno())


def read(
    path: Path,
    from_row: Callable[[Any], _Record],
    others: dict[Key, _Record] | None = None,
) -> dict[Key, _Record]:
    """Read all records by key, and add them to others where there are any.

    A missing file has none, a torn last line is not counted; RecordsError where a line is damaged
    or disagrees with another of its key.
    """
    records = {} if others is None else others
    if not path.exists():
        return records
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                break  # torn by a kill
            try:
                record = from_row(json.loads(line))
            except RecordsError:
                raise
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise RecordsError(
                    f"{path}, line {number}: not a record ({error}); delete this line and start "
                    "the run again to redo it"
                ) from error
            if records.setdefault(record.key, record) != record:
                raise RecordsError(
                    f"{path}, line {number}: a second, different record of {record.key}; delete "
                    "the lines of both and run the same command again to redo it"
                )
    return records


def rewrite_sorted(
    path: Path, records: Iterable[_Record], line: Callable[[_Record], bytes] = record_line
) -> None:
    """Replace a file by these records, in this order, at once."""
    replace_file(path, b"".join(map(line, records)))
