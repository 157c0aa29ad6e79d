"""A run's directory: what lies where, and which run it belongs to."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field

from evaluator.checked import STRICT_FIELDS, Name, Number, Whole, checked
from evaluator.errors import RecordsError, RunDirectoryError
from evaluator.store.fields import SessionFields, SettingsFields
from tinylora.files.json_text import read_object
from tinylora.files.whole_file import replace_file

RUN_FORMAT = "tinylora-run/1"
_Kind = TypeVar("_Kind")


@dataclass(frozen=True)
class ProblemFacts:
    """What tables need to know of a problem."""

    __pydantic_config__ = STRICT_FIELDS

    id: Name
    family: Name | None
    language: Name | None


@dataclass(frozen=True)
class ArmFacts:
    """What a run records of an arm.

    ``digest`` is a sha256 over names and contents of the files of its checkpoint that decide what
    it computes, ``files`` has 16 digits of each; ``weight_bytes`` counts the artifact too;
    ``capture`` and ``residual`` are those of ``fidelity.json``. An arm
    without a checkpoint here has the digest of its file of texts, or of ``served``: what its
    endpoint says of the model. ``paired`` and ``logits`` are what its backend can do.
    """

    __pydantic_config__ = STRICT_FIELDS

    name: Name
    kind: Name
    digest: Name
    artifact_digest: Name | None
    weight_bytes: Whole
    capture: Number | None
    residual: Number | None
    served: Name = ""
    paired: bool = True
    logits: bool = True
    files: Mapping[Name, Name] = field(default_factory=dict)


@dataclass(frozen=True)
class RunFacts:
    """Everything that a run's records depend on.

    ``config`` has the ``deciding_fields``, and the kind of device that it was resolved to; problems
    are in the suite's order, which is that of all records; those left out come with reasons. Near
    copies are groups of problems of no family whose statements are nearly the same.
    """

    __pydantic_config__ = STRICT_FIELDS

    config: dict[str, Any]
    suite: Name
    suite_digest: Name
    prompts_digest: Name
    problems: Annotated[tuple[ProblemFacts, ...], Field(min_length=1)]
    arms: Annotated[tuple[ArmFacts, ...], Field(min_length=1)]
    left_out: dict[Name, Name] = field(default_factory=dict)
    near_copies: tuple[tuple[Name, ...], ...] = ()
    format: Name = RUN_FORMAT

    @property
    def reference(self) -> str | None:
        """Name of the arm that others are compared with: the first restored one."""
        return next((arm.name for arm in self.arms if arm.kind == "restored"), None)

    @property
    def control(self) -> str | None:
        """Name of the first base arm."""
        return next((arm.name for arm in self.arms if arm.kind == "base"), None)

    def arm(self, name: str) -> ArmFacts:
        """The facts of an arm."""
        return next(arm for arm in self.arms if arm.name == name)

    def _settings(self, name: str) -> dict[str, Any]:
        """An arm's part of the configuration; of runs of earlier versions empty."""
        arms = self.config.get("arms", ())
        return next((arm for arm in arms if arm["name"] == name), {})

    def same_model(self, name: str) -> tuple[str, ...]:
        """Arms that are this arm's model once more, itself too, drawn or computed otherwise."""
        own = ("name", "seed", "batch_size", "backend")

        def identity(arm: ArmFacts) -> tuple[object, ...]:
            settings = {k: v for k, v in self._settings(arm.name).items() if k not in own}
            return arm.kind, arm.digest, arm.artifact_digest, settings

        wanted = [identity(arm) for arm in self.arms if arm.name == name]
        return tuple(arm.name for arm in self.arms if identity(arm) in wanted)

    def same_noise(self, one: str, other: str) -> bool:
        """Whether two arms draw with the same noise: equal models then write equal texts."""
        decoding = self.config["decoding"]
        if decoding["temperature"] == 0:  # greedy decoding draws nothing
            return True
        own = [self._settings(name).get("seed") for name in (one, other)]
        seeds = {decoding["seed"] if seed is None else seed for seed in own}
        return self.paired(one, other) and len(seeds) == 1

    def paired(self, one: str, other: str) -> bool:
        """Whether the run sets the random numbers of two arms, so that it can make them equal."""
        greedy = self.config["decoding"]["temperature"] == 0
        return bool(greedy or (self.arm(one).paired and self.arm(other).paired))

    def other_batches(self, one: str, other: str) -> bool:
        """Whether two arms need not run in the same batches, so that they round differently."""
        size = self.config["decoding"].get("batch_size")
        backend = self.config.get("backend", "transformers")
        ways = [
            (arm.get("backend") or backend, arm.get("batch_size") or size)
            for arm in (self._settings(one), self._settings(other))
        ]
        engines = {backend for backend, _ in ways} - {"transformers"}  # batches by who comes when
        return bool(engines or ways[0] != ways[1])

    @property
    def samples(self) -> int:
        """Samples of a problem."""
        return int(self.config["decoding"]["samples"])

    @property
    def looks(self) -> int:
        """How often the run may be looked at while it grows, the last time included."""
        return int(self.config["equivalence"].get("looks", 1))


class _Entry:
    """A file or folder of a run, as an attribute of its directory."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, run: "RunDirectory", kind: type) -> Path:
        return run.path / self.name


@dataclass(frozen=True)
class RunDirectory:
    """Paths of a run, and the run that lies there.

    A directory takes one run: starting it again with other settings, models or problems is refused,
    because records of two runs must not mix.
    """

    path: Path

    facts = _Entry("run.json")  # what the records depend on: settings, digests of problems, models
    config = _Entry("config.yaml")  # with every default written out
    plan = _Entry("plan.json")  # δ, suite and arms, written before the first completion
    environment = _Entry("environment.json")  # of every session that made records
    generations = _Entry("generations.jsonl")  # completions, appended as they are made
    token_level = _Entry("token_level.jsonl")  # KL on the reference's texts, likewise
    spool = _Entry("token_level.tmp")  # logits of the reference, while the token level is made
    verdicts = _Entry("verdicts.jsonl")  # per test, appended as they are made
    statements = _Entry("statements.jsonl")  # and beginnings of tests, for the page
    fidelity = _Entry("fidelity.json")  # what each arm's export says of its modules, likewise
    problems = _Entry("problems.parquet")  # passes by problem and arm
    comparison = _Entry("comparison.json")  # the statistics
    tables = _Entry("tables")  # CSV, Parquet, Markdown, LaTeX
    page = _Entry("report.html")  # charts, flips, programs; one file, no network
    plots = _Entry("plots")  # its charts as SVG
    report = _Entry("report.md")  # all tables, and what made them; the last file that a run writes
    factors = _Entry("factors")  # SVD factors of the bases, kept for the next start

    def generations_of(self, rank: int) -> Path:
        """The file that one of several processes appends its completions to."""
        return self.path / f"generations.rank-{rank:04d}.jsonl" if rank else self.generations

    def other_generations(self) -> tuple[Path, ...]:
        """Files that further processes of this or an earlier launch left."""
        return tuple(sorted(self.path.glob("generations.rank-*.jsonl")))

    def check_usable(self, overwrite: bool) -> None:
        """Refuse with RunDirectoryError a directory that holds something else than a run."""
        hint = " (--overwrite replaces runs only)" if overwrite else ""
        check_directory(self.path, self.facts.name, "run", hint)

    def begin(self, facts: RunFacts, config_yaml: str, overwrite: bool) -> None:
        """Start a run here, or go on with it; RunDirectoryError names what differs."""
        if overwrite:
            self._clear()
        else:
            self.check_same(facts)
        replace_file(self.facts, _to_json(facts))  # first: it makes the directory a run's
        replace_file(self.config, config_yaml.encode())

    def differences(self, facts: RunFacts) -> list[str]:
        """What the run that is here has otherwise, each with both values; empty without one."""
        if not self.facts.exists():
            return []
        before, now = _load(self.facts), json.loads(_to_json(facts))
        for either in (before, now):  # they follow from the suite, whose digest is compared
            either.pop("near_copies", None)
        if isinstance(arms := before.get("arms"), list):
            for pair in zip(arms, now["arms"], strict=False):
                _compare_by_file(*pair)
        return _differences(before, now)

    def join(self, facts: RunFacts) -> None:
        """Check, in a further process, that the first one has begun this very run here."""
        if not self.facts.exists():
            raise RunDirectoryError(
                f"{self.path}: the first process has begun the run, but its run.json cannot be "
                "seen from here; all machines of a launch need the same out"
            )
        self.check_same(facts)

    def read_facts(self) -> RunFacts:
        """Read ``run.json``; RecordsError where it is missing or damaged."""
        if not self.facts.is_file():
            raise RecordsError(f"{self.path}: no run.json, so this is not a run's directory")
        content = _load(self.facts)
        if content.get("format") != RUN_FORMAT:
            raise RecordsError(
                f"{self.facts}: expected format {RUN_FORMAT!r}, found {content.get('format')!r}"
            )
        facts = _checked(RunFacts, content, self.facts)
        _checked(SettingsFields, facts.config, self.facts)
        return facts

    def add_session(self, environment: Any) -> None:
        """Append one session's environment to ``environment.json``."""
        sessions = self.sessions()
        sessions.append(environment)
        text = json.dumps({"sessions": sessions}, ensure_ascii=False, indent=2)
        replace_file(self.environment, text.encode() + b"\n")

    def sessions(self) -> list[Any]:
        """Environments of all sessions so far."""
        if not self.environment.exists():
            return []
        sessions = _load(self.environment).get("sessions")
        _checked(list[SessionFields], sessions, self.environment)
        return list(sessions or ())

    def check_same(self, facts: RunFacts) -> None:
        """Refuse another run than the one that is here; RunDirectoryError names what differs."""
        if differences := self.differences(facts):
            raise RunDirectoryError(
                f"{self.path} holds another run: {'; '.join(differences[:5])}. To keep its records "
                "choose another out, or give it what it began with; --overwrite deletes them and "
                "starts anew"
            )

    def _clear(self) -> None:
        names = (entry.name for entry in vars(RunDirectory).values() if isinstance(entry, _Entry))
        made = (*self.tables.glob("*.*"), *self.plots.glob("*.svg"), *self.other_generations())
        for path in (*made, *(self.path / name for name in names)):
            # run.json stays until it is replaced: without it this would be no run's directory
            if path.is_file() and path != self.facts:
                path.unlink()


def check_directory(path: Path, marker: str, what: str, hint: str = "") -> None:
    """Refuse with RunDirectoryError a path that holds files, and not the marker of ours."""
    if not path.exists():
        return
    if not path.is_dir():
        raise RunDirectoryError(f"{path}: is a file, expected the directory of a {what}")
    others = {found.name for found in path.iterdir()} - {".lock", f"{marker}.part"}
    if others and marker not in others:
        raise RunDirectoryError(
            f"{path}: is not empty and has no {marker}, so it is not a {what}'s directory; "
            f"choose another out{hint}"
        )


def _to_json(facts: RunFacts) -> bytes:
    optional = ("left_out", "near_copies")
    fields = {name: value for name, value in asdict(facts).items() if value or name not in optional}
    # of a model in this process, and of runs of earlier versions
    usual: dict[str, Any] = {"served": "", "paired": True, "logits": True, "files": {}}
    fields["arms"] = [
        {name: value for name, value in arm.items() if name not in usual or value != usual[name]}
        for arm in fields["arms"]
    ]
    return json.dumps(fields, ensure_ascii=False, indent=1).encode() + b"\n"


def _compare_by_file(*arms: Any) -> None:
    """Of what two runs say of an arm, leave digests of files where both have them, else of all."""
    if all(isinstance(arm, dict) for arm in arms):
        redundant = "digest" if all(arm.get("files") for arm in arms) else "files"
        for arm in arms:
            arm.pop(redundant, None)


def _checked(kind: type[_Kind], value: object, path: Path) -> _Kind:
    try:
        return checked(kind, value)
    except (ValueError, RecursionError) as error:
        raise RecordsError(
            f"{path}: not what a run writes ({error}); restore the file, or start the run anew "
            "with --overwrite"
        ) from error


def _load(path: Path) -> dict[str, Any]:
    try:
        return read_object(path, RecordsError)
    except OSError as error:
        raise RecordsError(f"{path}: cannot be read: {error}") from error


def _differences(before: Any, now: Any, name: str = "") -> list[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [*before, *(key for key in now if key not in before)]
        return [
            text
            for key in keys
            for text in _differences(before.get(key), now.get(key), f"{name}.{key}".lstrip("."))
        ]
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        return [
            text
            for index, pair in enumerate(zip(before, now, strict=True))
            for text in _differences(*pair, f"{name}[{index}]")
        ]
    return [] if before == now else [f"{name} was {_short(before)}, is {_short(now)}"]


def _short(value: Any) -> str:
    text = f"{len(value)} entries" if isinstance(value, list) else json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "…"
