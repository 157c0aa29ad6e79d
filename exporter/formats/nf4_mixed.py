"""``nf4-mixed``: the delta merged; some modules in bfloat16, the others in 4 bits."""

from dataclasses import dataclass
from typing import ClassVar

from exporter.base.checkpoint import Checkpoint
from exporter.formats.dense import DenseWeight
from exporter.formats.encoding import TRAINER_DTYPE, Encoding, Source
from exporter.formats.nf4 import Nf4


@dataclass(frozen=True)
class Nf4Mixed(Nf4):
    """As ``nf4``, but for the modules ``keep``, which stay in bfloat16."""

    keep: tuple[str, ...] = ()
    name: ClassVar[str] = "nf4-mixed"
    content: ClassVar[str] = (
        "The delta is merged; the modules that carry most of its effect are stored in bfloat16, "
        "the others in 4 bits (bitsandbytes)."
    )
    chooses_modules: ClassVar[bool] = True

    @property
    def kept(self) -> tuple[str, ...]:
        """Those that were given or chosen."""
        return self.keep

    def encoding(self, module: str, source: Source, base: Checkpoint) -> Encoding:
        """bfloat16 where the module is kept."""
        if module in self.keep:
            return DenseWeight(TRAINER_DTYPE)
        return super().encoding(module, source, base)
