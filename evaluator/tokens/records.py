"""Records of the token level: how far an arm's predictions on a text are from the reference's.

That of the reference itself compares it with its own repeat in other batches: the noise floor.
"""

from dataclasses import dataclass
from typing import Any, Self

from evaluator.store.records import Record


@dataclass(frozen=True)
class TokenRecord(Record):
    """One text of the reference, a sample's completion, as an arm predicts it.

    Attributes:
        tokens_sha256: Digest of the text's tokens and of the compared positions.
        same: Positions at which the arm's most likely token is that of the reference.
        kl: KL(reference‖arm) of each compared position, nats, six digits.
    """

    tokens_sha256: str
    same: int
    kl: tuple[float, ...]

    @property
    def identity(self) -> tuple[Any, ...]:
        """All fields."""
        return (*self.key, self.tokens_sha256, self.same, self.kl)

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Self:
        """Read a line's object; KeyError or TypeError where it is not one of these."""
        return cls(**{**row, "kl": tuple(row["kl"])})
