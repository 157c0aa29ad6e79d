"""The JSON that bitsandbytes stores beside a 4-bit weight."""

from typing import Annotated, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tinylora.errors import QuantizedWeightError

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}

_Count = Annotated[int, Field(gt=0)]


class QuantState(BaseModel):
    """What decides the values of a linear layer's weight; ``nested_*``: of quantized scales."""

    model_config = ConfigDict(strict=True)
    quant_type: Literal["nf4", "fp4"]
    blocksize: Literal[32, 64, 128, 256, 512, 1024, 2048, 4096]
    dtype: Literal["bfloat16", "float16", "float32"]
    shape: tuple[_Count, _Count]
    nested_blocksize: _Count | None = None
    nested_offset: float = 0.0

    @model_validator(mode="after")
    def _has_offset(self) -> Self:
        if {"nested_blocksize", "nested_offset"} & self.model_fields_set == {"nested_blocksize"}:
            raise ValueError("nested_offset is missing")
        return self


def parse_state(name: str, raw: bytes) -> QuantState:
    """Read the state of the weight ``name``; a QuantizedWeightError if bitsandbytes writes none."""
    try:
        return QuantState.model_validate_json(raw)
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, problem["loc"]))
        raise QuantizedWeightError(
            f"{name}: quantization state {raw!r:.300} is none that bitsandbytes writes for a "
            f"linear layer ({field}: {problem['msg']})"
        ) from error
