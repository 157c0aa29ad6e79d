"""The reference's logits on the disk, until the last arm has been compared with them.

They are in the model's own dtype: 4096 predictions over a vocabulary of 152 000 take 1.2 GB in
16 bits. So one model is in memory at a time, and few logits.
"""

from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor, device

from evaluator.tokens.texts import ScoredText


class ReferenceLogits:
    """Logits of the reference on the disk, one file a text.

    Args:
        directory: An empty directory; the caller removes it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._names: dict[str, int] = {}

    def keep(self, text: ScoredText, logits: Tensor) -> None:
        """Store a text's logits ``[positions, vocabulary]``."""
        number = self._names.setdefault(text.problem, len(self._names))
        save_file({"logits": logits.contiguous()}, self._file(number))

    def load(self, text: ScoredText, where: device) -> Tensor:
        """A text's logits ``[positions, vocabulary]``."""
        logits: Tensor = load_file(self._file(self._names[text.problem]), str(where))["logits"]
        return logits

    def _file(self, number: int) -> Path:
        return self._directory / f"{number}.safetensors"
