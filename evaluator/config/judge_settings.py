"""Settings of the judge, declared once: for the judge, the files of a run, and the command line."""

import hashlib
import math
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, create_model, model_validator

from evaluator.config.config_file import FilePath, Section
from evaluator.errors import ConfigError

Flags = Annotated[tuple[str, ...], Field(strict=False)]
STANDARDS = ("c++98", "c++11", "c++14", "c++17", "c++20", "c++23")


@dataclass(frozen=True)
class JudgeSettings:
    """How programs are compiled and run; ConfigError where a value makes no sense.

    Attributes:
        wall_multiple: Wall limit of a test in multiples of its CPU limit.
        extra_time_factor: A test is killed at this multiple of its CPU limit. A program that ends
            between the limit and the kill is run again, alone, before its TLE counts; so is one
            that was killed, unless an earlier test has failed it.
        output_kib: Standard output and error of a test, each (OLE beyond it).
        workers: Programs judged at the same time; None means one for each core.
        strip_freopen: Remove calls of freopen, as upstream does; not those of special judges.
        checker_standard: Of special judges, as the three below. They are the problem setter's:
            nothing that is meant for solutions holds for them, neither this nor any limit.
    """

    standard: str = "c++14"
    compile_flags: Flags = ("-O2", "-DONLINE_JUDGE")
    link_flags: Flags = ("-lm",)
    compile_cpu_ms: int = 10_000
    compile_wall_ms: int = 60_000
    compile_memory_kib: int = 2 << 20
    compile_file_kib: int = 64 << 10
    wall_multiple: float = 3.0
    extra_time_factor: float = 1.25
    output_kib: int = 32 << 10
    workers: int | None = None
    strip_freopen: bool = False
    unsafe: bool = False
    testlib_path: FilePath | None = None
    checker_standard: str = "c++14"
    checker_flags: Flags = ("-O2", "-DONLINE_JUDGE")
    checker_compile_cpu_ms: int = 60_000
    checker_cpu_ms: int = 10_000

    def __post_init__(self) -> None:
        """Refuse values that make no sense."""
        for name in ("standard", "checker_standard"):
            if (found := getattr(self, name)) not in STANDARDS:
                raise ConfigError(f"{name} is {found!r}, allowed are {', '.join(STANDARDS)}")
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"workers is {self.workers}, expected at least 1")
        if not 1 <= self.extra_time_factor <= self.wall_multiple < math.inf:
            raise ConfigError(
                f"expected finite 1 <= extra_time_factor <= wall_multiple, found "
                f"{self.extra_time_factor} and {self.wall_multiple}"
            )
        for name in (f.name for f in fields(self) if f.name.endswith(("_ms", "_kib"))):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected more than 0")
        if self.testlib_path is not None and not self.testlib_path.is_file():
            raise ConfigError(f"testlib_path {self.testlib_path} is not a file")

    def of_checkers(self) -> "JudgeSettings":
        """The settings with which special judges are compiled."""
        return replace(
            self,
            standard=self.checker_standard,
            compile_flags=self.checker_flags,
            link_flags=("-lm",),
            compile_cpu_ms=self.checker_compile_cpu_ms,
            compile_wall_ms=6 * self.checker_compile_cpu_ms,
            compile_memory_kib=4 << 20,
            compile_file_kib=64 << 10,
        )

    def testlib_sha256(self) -> str | None:
        """Digest of ``testlib.h``, which decides verdicts as its path does not."""
        if self.testlib_path is None:
            return None
        try:
            return hashlib.sha256(self.testlib_path.read_bytes()).hexdigest()
        except OSError as error:
            raise ConfigError(
                f"testlib_path {self.testlib_path} cannot be read: {error}"
            ) from error


class _JudgeSection(Section):
    """How programs are judged: the fields of ``JudgeSettings`` but those for the judge alone."""

    @model_validator(mode="after")
    def _judge_takes_them(self) -> Self:
        self.settings(unsafe=False)
        return self

    def settings(self, *, unsafe: bool) -> JudgeSettings:
        """The judge's own form; ``unsafe`` stands in no file, it is asked for at every start."""
        return JudgeSettings(**dict(self), unsafe=unsafe)


_NOT_IN_FILES = (
    "compile_cpu_ms", "compile_wall_ms", "compile_memory_kib", "compile_file_kib", "unsafe",
)  # fmt: skip
if TYPE_CHECKING:
    JudgeConfig = _JudgeSection
else:
    _in_files = {f.name: (f.type, f.default) for f in fields(JudgeSettings)}
    for _name in _NOT_IN_FILES:
        del _in_files[_name]
    JudgeConfig = create_model("JudgeConfig", __base__=_JudgeSection, **_in_files)
