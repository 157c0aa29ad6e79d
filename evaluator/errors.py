"""Errors of the evaluator: each is also a standard type, which a library user expects."""

from typing import Any

from tinylora.errors import TinyLoRAError


class EvaluatorError(TinyLoRAError):
    """Root of the evaluator's errors."""


class ConfigError(EvaluatorError, ValueError):
    """A configuration that cannot be used."""


class SuiteError(EvaluatorError, ValueError):
    """A suite, or a problem of it, that cannot be judged."""


class ArchiveError(SuiteError):
    """Test data in an archive or folder that is broken, incomplete or an attack."""


class SuiteOutputError(EvaluatorError, OSError):
    """A directory that cannot take an imported suite."""


class CompletionsError(EvaluatorError, ValueError):
    """A file of completions that cannot be read or does not fit its suite."""


class RecordsError(EvaluatorError, ValueError):
    """Records of a run that are missing, damaged or disagree with each other."""


class RunDirectoryError(EvaluatorError, OSError):
    """The directory of a run is in use, belongs to another run, or has no room."""


class UninformativeError(EvaluatorError, ValueError):
    """A run that was to be made only if its pass rates could show that an adapter was lost."""


class LaunchError(EvaluatorError, RuntimeError):
    """Processes of one run that lost each other."""


class ModelError(EvaluatorError, RuntimeError):
    """A model that is missing, no usable one, or another one than the arm says."""


class BenchError(EvaluatorError, RuntimeError):
    """A part of a bench that failed; the other parts go on."""


class SandboxError(EvaluatorError, RuntimeError):
    """The judge's own machinery failed; no solution is to blame."""


class SandboxUnavailableError(SandboxError):
    """No compiler, or no rung of the sandbox ladder, works on this machine."""


def shown(value: Any) -> str:
    """A bounded text of any value for a message; Python spells neither huge numbers nor deep lists.

    Example:
        >>> shown("a" * 100), shown(10**5000)
        ("'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 'a huge int')
    """
    try:
        return f"{value!r:.60}"
    except (ValueError, RecursionError):
        return f"a huge {type(value).__name__}"
