"""A bench taken apart: its exports and runs, and where each lies.

Below ``out`` are ``exports/``, ``requests/`` and ``logs/BASE/ARTIFACT/FORMAT`` (checkpoint, what it
was made from, what the exporter said) and ``runs/`` and ``earlier/BASE/ARTIFACT/SUITE/DECODING``.
"""

from collections.abc import Sequence
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
from evaluator.config.run_config import AdapterSection, ArmConfig, ArmKind, RunConfig

# Fields of a bench that all of its runs have as they are.
_SHARED = BenchConfig.model_fields.keys() & RunConfig.model_fields.keys() - {
    "name",
    "out",
    "prompt",
}


@dataclass(frozen=True)
class Export:
    """One checkpoint to export; ``root`` is the directory of the bench."""

    base: BenchBase
    artifact: BenchArtifact
    format: BenchFormat
    root: Path

    @property
    def name(self) -> str:
        """``BASE/ARTIFACT/FORMAT``."""
        return f"{self.base.name}/{self.artifact.name}/{self.format.name}"

    @property
    def out(self) -> Path:
        """Directory of the checkpoint."""
        return self.root / "exports" / self.name

    @property
    def request(self) -> Path:
        """What it was made from."""
        return self.root / "requests" / f"{self.name}.json"

    @property
    def log(self) -> Path:
        """What the exporter said."""
        return self.root / "logs" / f"{self.name}.log"

    @property
    def arm(self) -> ArmConfig:
        """The checkpoint as an arm of a run."""
        return ArmConfig(name=self.format.name, kind=ArmKind.MERGED, model=str(self.out))


@dataclass(frozen=True)
class Cell:
    """One run: an artifact, in all formats, on a suite."""

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
        """``BASE/ARTIFACT/SUITE/DECODING``."""
        return "/".join(self.parts)

    @property
    def out(self) -> Path:
        """Directory of the run."""
        return self.bench.out / "runs" / self.name

    @property
    def earlier(self) -> Path:
        """Where the run goes when its inputs have changed."""
        return self.bench.out / "earlier" / self.name

    def run_config(self, made: Sequence[Export]) -> RunConfig:
        """Configuration of the run, with an arm for each of the exports that could be made."""
        bench, base = self.bench, self.base
        restored = restored_arm(base, self.artifact)
        # The control has no delta, so all artifacts share it.
        control = ArmConfig(name="base", kind=ArmKind.BASE, model=base.model, load=base.load)
        repeat = restored.model_copy(update={"name": "repeat", "seed": bench.repeat_seed})
        repeats = () if bench.repeat_seed is None else (repeat,)
        merged = tuple(export.arm for export in self.exports if export in made)
        return RunConfig(
            name=".".join(self.parts),
            suite=self.suite.path,
            out=self.out,
            arms=(control, restored, *repeats, *merged),
            prompt=self.suite.prompt or bench.prompt,
            decoding=self.decoding.fields,
            factor_store=factors_of(bench),
            **{name: getattr(bench, name) for name in _SHARED},
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


def factors_of(bench: BenchConfig) -> Path:
    """Directory of the SVD factors, which exports and runs share."""
    return bench.out / "factors"


def plan_exports(bench: BenchConfig) -> tuple[Export, ...]:
    """Every base × artifact × format, in the configuration's order."""
    return tuple(
        Export(base, artifact, chosen, bench.out)
        for base in bench.bases
        for artifact in base.artifacts
        for chosen in bench.formats
    )


def plan_runs(bench: BenchConfig, exports: Sequence[Export]) -> tuple[Cell, ...]:
    """Every base × artifact × suite × decoding, in the configuration's order."""
    return tuple(
        Cell(
            bench=bench,
            base=base,
            artifact=artifact,
            suite=suite,
            decoding=decoding,
            exports=tuple(e for e in exports if e.base == base and e.artifact == artifact),
        )
        for base in bench.bases
        for artifact in base.artifacts
        for suite in bench.suites
        for decoding in bench.decodings
    )
