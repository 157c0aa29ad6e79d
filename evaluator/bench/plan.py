"""A bench taken apart: its exports and runs, and where each lies."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluator.bench.config import (
    BenchArtifact,
    BenchBase,
    BenchConfig,
    BenchDecoding,
    BenchFormat,
    BenchSuite,
)
from evaluator.config.run_config import (
    AdapterSection,
    ArmConfig,
    ArmKind,
    DecodingConfig,
    RunConfig,
)

# Fields of a bench that all of its runs have as they are.
_SHARED = BenchConfig.model_fields.keys() & RunConfig.model_fields.keys()
_OWN = {"name", "out", "prompt"}


@dataclass(frozen=True)
class Export:
    """One checkpoint to export, named ``BASE/ARTIFACT/FORMAT``."""

    base: BenchBase
    artifact: BenchArtifact
    format: BenchFormat
    name: str
    out: Path  # the checkpoint
    request: Path  # what it was made from
    log: Path  # what the exporter said
    factors: Path  # SVD factors of all bases, which runs use too
    lock: Path  # of all exporters of the bench


@dataclass(frozen=True)
class Cell:
    """One run: an artifact, in all formats, on a suite; named ``BASE/ARTIFACT/SUITE/DECODING``."""

    bench: BenchConfig
    base: BenchBase
    artifact: BenchArtifact
    suite: BenchSuite
    decoding: BenchDecoding
    exports: tuple[Export, ...]

    @property
    def parts(self) -> tuple[str, str, str, str]:
        """Names of base, artifact, suite and decoding."""
        return self.base.name, self.artifact.name, self.suite.name, self.decoding.name

    @property
    def name(self) -> str:
        """All of them."""
        return "/".join(self.parts)

    @property
    def out(self) -> Path:
        """Directory of the run."""
        return self.bench.out / "runs" / self.name

    def run_config(self, made: Collection[Export]) -> RunConfig:
        """Configuration of the run, with an arm for each of the exports that could be made."""
        bench, base = self.bench, self.base
        restored = restored_arm(base, self.artifact)
        # The control has no delta, so all artifacts share it.
        control = ArmConfig(name="base", kind=ArmKind.BASE, model=base.model, load=base.load)
        repeat = restored.model_copy(update={"name": "repeat", "seed": bench.repeat_seed})
        repeats = () if bench.repeat_seed is None else (repeat,)
        merged = tuple(
            ArmConfig(name=export.format.name, kind=ArmKind.MERGED, model=str(export.out))
            for export in self.exports
            if export in made
        )
        return RunConfig(
            name=".".join(self.parts),
            suite=self.suite.path,
            out=self.out,
            arms=(control, restored, *repeats, *merged),
            prompt=self.suite.prompt or bench.prompt,
            decoding=DecodingConfig(**self.decoding.model_dump(exclude={"name"})),
            factor_store=bench.out / "factors",
            **{name: getattr(bench, name) for name in _SHARED - _OWN},
        )


def restored_arm(base: BenchBase, artifact: BenchArtifact) -> ArmConfig:
    """The reference: the base with the artifact at run time."""
    return ArmConfig(
        name="restored",
        kind=ArmKind.RESTORED,
        model=base.model,
        load=base.load,
        artifact=artifact.path,
        **{name: getattr(artifact, name) for name in AdapterSection.model_fields},
    )


def plan_exports(bench: BenchConfig) -> tuple[Export, ...]:
    """Every base × artifact × format, in the configuration's order."""
    return tuple(
        Export(
            base,
            artifact,
            chosen,
            name,
            out=bench.out / "exports" / name,
            request=bench.out / "requests" / f"{name}.json",
            log=bench.out / "logs" / f"{name}.log",
            factors=bench.out / "factors",
            lock=bench.out / "exports" / ".lock",
        )
        for base in bench.bases
        for artifact in base.artifacts
        for chosen in bench.formats
        for name in [f"{base.name}/{artifact.name}/{chosen.name}"]
    )


def plan_runs(bench: BenchConfig, exports: Sequence[Export]) -> tuple[Cell, ...]:
    """Every base × artifact × suite × decoding, in the configuration's order."""
    return tuple(
        Cell(bench, base, artifact, suite, decoding, own)
        for base in bench.bases
        for artifact in base.artifacts
        for own in [tuple(e for e in exports if e.base == base and e.artifact == artifact)]
        for suite in bench.suites
        for decoding in bench.decodings
    )
