"""Errors of the library: each is a :class:`TinyLoRAError` and a standard type, to catch either."""

import errno

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the operating system says where a file may not grow."""


class TinyLoRAError(Exception):
    """Root of everything that this project raises on purpose."""


class ArtifactError(TinyLoRAError, ValueError):
    """An artifact file that cannot be used."""


class ArtifactMissingError(TinyLoRAError, FileNotFoundError):
    """There is no artifact file at the given path."""


class TargetMismatchError(TinyLoRAError, ValueError):
    """The base model does not have the modules that the artifact was trained on."""


class ModelNotFoundError(TinyLoRAError, FileNotFoundError):
    """A model is neither a directory nor in the cache of a hub."""


class ModelDownloadError(TinyLoRAError, ConnectionError):
    """A model cannot be downloaded from its hub."""


class ModelConfigError(TinyLoRAError, ValueError):
    """A checkpoint's config.json says what no model can have."""


class ModelCodeError(TinyLoRAError, ValueError):
    """A checkpoint that works only with Python code of its own, which is never run."""


class OptionsError(TinyLoRAError, ValueError):
    """Options that do not apply to an adapter of this dialect."""


class ProjectionError(TinyLoRAError, ValueError):
    """The random projections cannot be drawn as asked."""


class QuantizedWeightError(TinyLoRAError, ValueError):
    """Tensors of a 4-bit weight are missing, misshapen or inconsistent."""


class FactorStoreError(TinyLoRAError, OSError):
    """Factors cannot be written to their store, or read from it."""


class FactorizationError(TinyLoRAError, ArithmeticError):
    """The singular value decomposition failed; zeros are never returned instead."""


class RestoreError(TinyLoRAError, RuntimeError):
    """The adapter cannot be put on, or taken off, this model."""


class YamlError(TinyLoRAError, ValueError):
    """A YAML file that cannot be read, with the line at fault."""


class TokenizerError(TinyLoRAError, ValueError):
    """A checkpoint's tokenizer, or its chat template, cannot be used."""


class ScratchError(TinyLoRAError, OSError):
    """There is no place for what is needed only meanwhile."""
