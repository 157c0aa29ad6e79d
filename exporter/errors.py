"""Errors of the exporter: each is both the project's own and a standard type.

:func:`reading` and :func:`writing` make them of the operating system's.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tinylora.errors import NO_ROOM, TinyLoRAError

_AGAIN = "and run the same command again; a merge keeps its finished shards for that"


class ExportError(TinyLoRAError):
    """Root of what the exporter raises on purpose."""


class RequestError(ExportError, ValueError):
    """Options that contradict each other or are out of range."""


class CheckpointError(ExportError, ValueError):
    """A base checkpoint that cannot be used: damaged, incomplete, or of an unknown kind."""


class CheckpointMissingError(CheckpointError, FileNotFoundError):
    """The base directory, or a file that it needs, is not there."""


class CheckpointUnreadableError(CheckpointError, OSError):
    """A file of the base is there but cannot be read just now, or changes while it is read."""


class PlanError(ExportError, ValueError):
    """Base, artifact and format do not fit together."""


class FoldError(ExportError, ArithmeticError):
    """A weight is not finite before the fold, or does not fit the output dtype after it."""


class WriterError(ExportError, RuntimeError):
    """What was written is not what was planned."""


class OutputExistsError(ExportError, FileExistsError):
    """The output is already there and may not be replaced."""


class OutputBusyError(ExportError, RuntimeError):
    """Another process is writing the same output right now."""


class OutputWriteError(ExportError, OSError):
    """The output cannot be written: no permission, a read-only or failing file system."""


class DiskFullError(OutputWriteError):
    """There is no room for the output."""


class CaptureError(ExportError, RuntimeError):
    """The stored weights keep less of the delta than ``require_capture`` asks."""


class RetentionError(ExportError, RuntimeError):
    """The export keeps less of the adapter's effect than ``require_retention`` asks."""


class PromptError(ExportError, ValueError):
    """A file of prompts that cannot be read, or does not fit the model."""


class TargetResidualError(ExportError, RuntimeError):
    """No allowed format, or choice of modules, keeps as much of the effect as was asked."""


class PushError(ExportError, ConnectionError):
    """A finished export could not be uploaded."""


class VerificationError(ExportError, RuntimeError):
    """The directory is not an export, or cannot be checked at all."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Read a file of the base, or a file just written, in here."""
    try:
        yield
    except TinyLoRAError:  # some of them are OSErrors too
        raise
    except FileNotFoundError as error:
        text = f"{path}: no such file; is the checkpoint complete? download it again"
        raise CheckpointMissingError(text) from error
    except OSError as error:
        raise CheckpointUnreadableError(
            f"{path}: cannot be read ({error.strerror or error}); see to permissions, disk or "
            f"network, {_AGAIN}"
        ) from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Write a file of the output in here; DiskFullError where there is no room."""
    try:
        yield
    except TinyLoRAError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in NO_ROOM:
            raise DiskFullError(f"{path}: no room left ({reason}); free some, {_AGAIN}") from error
        raise OutputWriteError(
            f"{path}: cannot be written ({reason}); see to permissions, disk or network, or use "
            f"another directory, {_AGAIN}"
        ) from error
