"""One 4-bit weight as bitsandbytes stores it.

For a weight ``X`` of n elements a checkpoint holds:

=====================================  ==============  ============================================
``X``                                  uint8           ``[ceil(n/2), 1]``, row-major codes, the
                                                       first of each pair in the HIGH nibble
``X.absmax``                           uint8 or fp32   ``[ceil(n/blocksize)]``; uint8 = nested
``X.quant_map``                        fp32 ``[16]``   the code book
``X.nested_absmax``                    fp32            ``[ceil(blocks/256)]``
``X.nested_quant_map``                 fp32 ``[256]``
``X.quant_state.bitsandbytes__nf4``    uint8           JSON: quant_type, blocksize, dtype, shape,
                                                       nested_blocksize, nested_dtype, nested_offset
=====================================  ==============  ============================================

value = quant_map[code] · absmax[block], absmax = nested_quant_map[byte] · nested_absmax + offset,
in float32; then rounded to ``dtype``, the dtype that the weight had before it was quantized. (NF4:
Dettmers et al., "QLoRA", 2023, arXiv:2305.14314.)
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, Literal, Self

import torch
from blake3 import blake3
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor, nn

from tinylora.errors import QuantizedWeightError
from tinylora.weights.blockwise import (
    SCALES_A_BLOCK,
    dequantize_blocks,
    pairs_of_bytes,
    quantize_blocks,
    quantize_scales,
)
from tinylora.weights.code_books import QuantType, code_book

STATE_PREFIX = ".quant_state.bitsandbytes__"
_SUFFIXES = {
    "data": "",
    "absmax": ".absmax",
    "code": ".quant_map",
    "nested_absmax": ".nested_absmax",
    "nested_code": ".nested_quant_map",
}
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


@dataclass(frozen=True, eq=False)
class QuantizedWeight:
    """A 4-bit weight; see the module's text for the format.

    Attributes:
        data: uint8 ``[ceil(n/2), 1]``, two codes a byte.
        absmax: fp32 ``[ceil(n/blocksize)]``, or uint8 codes of them ("double quantization").
        code: fp32 ``[16]``, ascending for nf4.
        blocksize: Elements that share one absmax.
        quant_type: ``nf4`` or ``fp4``.
        dtype: What the forward pass rounds the values to.
        shape: ``(out, in)``.
        state: The JSON bytes as stored, kept so that rewriting changes nothing.
        nested_absmax: fp32 ``[ceil(blocks/nested_blocksize)]`` of quantized absmax, else None.
        nested_code: fp32 ``[256]``, the code book of their bytes.
        nested_blocksize: Absmax values that share one of ``nested_absmax``.
        nested_offset: Mean that was subtracted before quantizing them.
    """

    data: Tensor
    absmax: Tensor
    code: Tensor
    blocksize: int
    quant_type: QuantType
    dtype: torch.dtype
    shape: tuple[int, int]
    state: bytes
    nested_absmax: Tensor | None = None
    nested_code: Tensor | None = None
    nested_blocksize: int = SCALES_A_BLOCK
    nested_offset: float = 0.0

    @property
    def numel(self) -> int:
        """Number of elements n of the weight."""
        return self.shape[0] * self.shape[1]

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return self.data.device

    def to(self, device: torch.device) -> "QuantizedWeight":
        """The weight on a device; itself if that is where it is."""
        if device == self.device:
            return self
        moved: dict[str, Any] = {name: part.to(device) for name, part in self._parts().items()}
        return replace(self, **moved)

    def _parts(self) -> dict[str, Tensor]:
        """The tensors that it has, by attribute."""
        parts = {name: getattr(self, name) for name in _SUFFIXES}
        return {name: part for name, part in parts.items() if part is not None}

    @classmethod
    def from_tensors(cls, prefix: str, tensors: Mapping[str, Tensor]) -> "QuantizedWeight":
        """Assemble the weight of a name from a checkpoint's tensors; others are ignored.

        Raises:
            QuantizedWeightError: A companion is missing or does not fit the others.
        """
        state_keys = [k for k in tensors if k.startswith(prefix + STATE_PREFIX)]
        if len(state_keys) != 1:
            raise QuantizedWeightError(
                f"{prefix}: found {len(state_keys)} tensors {prefix + STATE_PREFIX}*, expected one"
            )
        # whatever dtype it has; a wrong one ends as bytes that are no state
        raw = bytes(tensors[state_keys[0]].cpu().view(-1).view(torch.uint8).tolist())
        state = parse_state(prefix, raw)
        numel = state.shape[0] * state.shape[1]
        blocks, nested = -(-numel // state.blocksize), state.nested_blocksize
        expected = {
            "data": (torch.uint8, -(-numel // 2)),
            "absmax": (torch.uint8 if nested else torch.float32, blocks),
            "code": (torch.float32, 16),
        }
        if nested:
            expected["nested_absmax"] = (torch.float32, -(-blocks // nested))
            expected["nested_code"] = (torch.float32, 256)
        parts = {}
        for part, (dtype, size) in expected.items():
            name = prefix + _SUFFIXES[part]
            if name not in tensors:
                raise QuantizedWeightError(f"{name} is missing; the shard is incomplete")
            parts[part] = found = tensors[name]
            if found.dtype != dtype or found.numel() != size:
                raise QuantizedWeightError(
                    f"{name}: {found.dtype} with {found.numel()} elements, expected {dtype} with "
                    f"{size} for a weight of shape {list(state.shape)}"
                )
        return cls(
            **parts,
            blocksize=state.blocksize,
            quant_type=state.quant_type,
            dtype=DTYPES[state.dtype],
            shape=state.shape,
            state=raw,
            nested_blocksize=nested or SCALES_A_BLOCK,
            nested_offset=state.nested_offset,
        )

    @classmethod
    def from_module(cls, module: nn.Module, name: str = "weight") -> "QuantizedWeight":
        """Read a bitsandbytes ``Linear4bit`` that has been quantized and not yet run.

        Raises:
            QuantizedWeightError: Not quantized yet (still on the CPU as floats), or repacked by a
                CPU forward pass, after which its data no longer have this format.
        """
        weight: Any = module.weight
        state: Any = getattr(weight, "quant_state", None)
        if state is None:
            raise QuantizedWeightError(f"{name}: this Linear4bit holds no quantized weight yet")
        if getattr(state, "packing_format_for_cpu", False):
            raise QuantizedWeightError(
                f"{name}: a forward pass on the CPU has repacked this weight, and its stored "
                "values can no longer be read; load the model again and restore before running it"
            )
        packed: dict[str, Tensor] = state.as_dict(packed=True)
        tensors = {f"{name}.{key}": value for key, value in packed.items()}
        return cls.from_tensors(name, {name: weight.data.view(torch.uint8), **tensors})

    @classmethod
    def quantize(
        cls,
        weight: Tensor,
        *,
        quant_type: QuantType = "nf4",
        blocksize: int = 64,
        double_quant: bool = True,
    ) -> "QuantizedWeight":
        """Quantize ``[out, in]``, bf16, fp16 or fp32, as bitsandbytes does, with the same bytes.

        ``double_quant`` quantizes the absmax too.
        """
        data, absmax = quantize_blocks(weight, quant_type, blocksize)
        state: dict[str, Any] = {
            "quant_type": quant_type,
            "blocksize": blocksize,
            "dtype": str(weight.dtype).removeprefix("torch."),
            "shape": list(weight.shape),
        }
        nested_absmax, nested_code, offset = None, None, 0.0
        if double_quant:
            mean = absmax.mean()
            absmax, nested_absmax, nested_code = quantize_scales(absmax - mean)
            offset = mean.item()
            state |= {
                "nested_blocksize": SCALES_A_BLOCK,
                "nested_dtype": "float32",
                "nested_offset": offset,
            }
        return cls(
            data=data,
            absmax=absmax,
            code=code_book(quant_type).to(weight.device),
            blocksize=blocksize,
            quant_type=quant_type,
            dtype=weight.dtype,
            shape=(weight.shape[0], weight.shape[1]),
            state=json.dumps(state).encode(),
            nested_absmax=nested_absmax,
            nested_code=nested_code,
            nested_offset=offset,
        )

    def to_tensors(self, prefix: str) -> dict[str, Tensor]:
        """The tensors of a checkpoint, with the keys and bytes that bitsandbytes writes."""
        tensors = {prefix + _SUFFIXES[name]: part for name, part in self._parts().items()}
        state = torch.frombuffer(bytearray(self.state), dtype=torch.uint8)
        return tensors | {f"{prefix}{STATE_PREFIX}{self.quant_type}": state}

    def codes(self) -> Tensor:
        """Codes 0 … 15 in row-major order, uint8 ``[n]``."""
        return unpack_codes(self.data, self.numel)

    def with_codes(self, codes: Tensor) -> "QuantizedWeight":
        """The same weight with other codes, uint8 ``[n]`` below 16, and the same statistics."""
        data = pack_codes(codes)
        if self.numel % 2:  # the unused nibble at the end stays what it was
            data[-1] |= self.data.reshape(-1)[-1] & 15
        return replace(self, data=data)

    @cached_property
    def block_absmax(self) -> Tensor:
        """Absmax of each block, fp32 ``[ceil(n/blocksize)]``."""
        if self.nested_absmax is None or self.nested_code is None:
            return self.absmax.float()
        scales = self.nested_absmax.repeat_interleave(self.nested_blocksize)[: self.absmax.numel()]
        looked_up = self.nested_code.index_select(0, self.absmax.int())
        return looked_up.mul_(scales).add_(self.nested_offset)

    def dequantize(self, dtype: torch.dtype | None = None) -> Tensor:
        """The weight as the forward pass sees it, ``[out, in]``; in float32 it is not rounded."""
        return self.rows(slice(0, self.shape[0]), dtype)

    def rows(self, part: slice, dtype: torch.dtype | None = None) -> Tensor:
        """Some rows of :meth:`dequantize`, ``[stop - start, in]``."""
        width, size = self.shape[1], self.blocksize
        first, last = part.start * width // size, -(-part.stop * width // size)  # whole blocks
        begin = first * size
        count = min(last * size, self.numel) - begin
        out = torch.empty(count, dtype=dtype or self.dtype, device=self.device)
        data, absmax = self.data.reshape(-1)[begin // 2 :], self.block_absmax[first:last]
        dequantize_blocks(data, absmax, self._pairs, size, out)
        return out[part.start * width - begin : part.stop * width - begin].view(-1, width)

    @cached_property
    def _pairs(self) -> Tensor:
        return pairs_of_bytes(self.code)

    def digest(self) -> str:
        """BLAKE3 (hex) of everything that decides the dequantized values."""
        digest = blake3(b"bitsandbytes-4bit\0")
        for name, tensor in sorted(self.to_tensors("").items()):
            if not name.startswith(STATE_PREFIX):
                digest.update(name.encode() + blake3(tensor_bytes(tensor)).digest())
        meaning: list[object] = [self.quant_type, self.blocksize, str(self.dtype), list(self.shape)]
        if self.nested_absmax is not None:
            meaning += [self.nested_offset, self.nested_blocksize]
        digest.update(json.dumps(meaning).encode())
        return digest.hexdigest()


def pack_codes(codes: Tensor) -> Tensor:
    """uint8 ``[n]`` -> ``[ceil(n/2), 1]``, the first in the high nibble; an odd end gets a 0."""
    pairs = nn.functional.pad(codes, (0, codes.numel() % 2)).view(-1, 2)
    return ((pairs[:, 0] << 4) | pairs[:, 1]).unsqueeze(1)


def unpack_codes(data: Tensor, numel: int) -> Tensor:
    """Inverse of :func:`pack_codes`, uint8 ``[n]``."""
    flat = data.reshape(-1)
    return torch.stack((flat >> 4, flat & 15), dim=1).view(-1)[:numel]


def tensor_bytes(tensor: Tensor) -> memoryview:
    """Bytes of a tensor in row-major order; those of a contiguous one on the CPU are its own."""
    array = tensor.detach().contiguous().reshape(-1).view(torch.uint8).cpu().numpy()
    return memoryview(array)  # type: ignore[arg-type]  # an ndarray is a buffer
