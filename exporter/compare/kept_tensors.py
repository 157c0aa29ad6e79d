
from safetensors import SafetensorError
from torch import Tensor

from exporter.errors import OutputWriteError
from tinylora.models.batches import TensorSpool


class KeptTensors(TensorSpool):
    """Tensors that wait on disk; errors say what to do about a full one."""

    def keep(self, name: str, tensor: Tensor) -> None:
        """Write a tensor to a file of its own.

        Raises:
            OutputWriteError: The temporary directory is full, or cannot be written.
        """
        try:
            super().keep(name, tensor)
        except (SafetensorError, OSError) as error:
            raise OutputWriteError(
                f"{self.directory}: an intermediate result cannot be kept ({error}); make room "
                "there, or set TMPDIR to a directory with more, and run the same command again, "
                "finished shards are kept"
            ) from error
