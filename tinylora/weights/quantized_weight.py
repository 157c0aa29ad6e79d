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
class NestedAbsmax:
    """Statistics of the quantized absmax ("double quantization").

    Attributes:
        absmax: fp32 ``[ceil(blocks/blocksize)]``.
        code: fp32 ``[256]``, the code book of the absmax bytes.
        offset: Mean that was subtracted before quantizing.
        blocksize: Absmax values a block, 256.
    """

    absmax: Tensor
    code: Tensor
    offset: float
    blocksize: int


@dataclass(frozen=True, eq=False)
class QuantizedWeight:
    """A 4-bit weight; see the module's text for the format.

    Attributes:
        data: uint8 ``[ceil(n/2), 1]``, two codes a byte.
        absmax: uint8 (with ``nested``) or fp32, ``[ceil(n/blocksize)]``.
        code: fp32 ``[16]``, ascending for nf4.
        blocksize: Elements that share one absmax.
        quant_type: ``nf4`` or ``fp4``.
        dtype: What the forward pass rounds the values to.
        shape: ``(out, in)``.
        nested: Statistics of the absmax, or None for single quantization.
        state: The JSON bytes as stored, kept so that rewriting changes nothing.
    """

    data: Tensor
    absmax: Tensor
    code: Tensor
    blocksize: int
    quant_type: QuantType
    dtype: torch.dtype
    shape: tuple[int, int]
    nested: NestedAbsmax | None
    state: bytes

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
        nested = self.nested
        if nested is not None:
            absmax, code = nested.absmax.to(device), nested.code.to(device)
            nested = replace(nested, absmax=absmax, code=code)
        data, absmax, code = (t.to(device) for t in (self.data, self.absmax, self.code))
        return replace(self, data=data, absmax=absmax, code=code, nested=nested)

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

        def tensor(suffix: str) -> Tensor:
            if prefix + suffix not in tensors:
                raise QuantizedWeightError(f"{prefix + suffix} is missing; the shard is incomplete")
            return tensors[prefix + suffix]

        nested = None
        if state.nested_blocksize is not None:
            nested = NestedAbsmax(
                absmax=tensor(".nested_absmax"),
                code=tensor(".nested_quant_map"),
                offset=state.nested_offset,
                blocksize=state.nested_blocksize,
            )
        weight = cls(
            data=tensor(""),
            absmax=tensor(".absmax"),
            code=tensor(".quant_map"),
            blocksize=state.blocksize,
            quant_type=state.quant_type,
            dtype=DTYPES[state.dtype],
            shape=state.shape,
            nested=nested,
            state=raw,
        )
        weight._check(prefix)
        return weight

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
        nested = None
        if double_quant:
            mean = absmax.mean()
            absmax, nested_absmax, code = quantize_scales(absmax - mean)
            nested = NestedAbsmax(nested_absmax, code, mean.item(), SCALES_A_BLOCK)
            state |= {
                "nested_blocksize": nested.blocksize,
                "nested_dtype": "float32",
                "nested_offset": nested.offset,
            }
        return cls(
            data=data,
            absmax=absmax,
            code=code_book(quant_type).to(weight.device),
            blocksize=blocksize,
            quant_type=quant_type,
            dtype=weight.dtype,
            shape=(weight.shape[0], weight.shape[1]),
            nested=nested,
            state=json.dumps(state).encode(),
        )

    def to_tensors(self, prefix: str) -> dict[str, Tensor]:
        """The tensors of a checkpoint, with the keys and bytes that bitsandbytes writes."""
        tensors = {
            prefix: self.data,
            f"{prefix}.absmax": self.absmax,
            f"{prefix}.quant_map": self.code,
        }
        if self.nested is not None:
            tensors[f"{prefix}.nested_absmax"] = self.nested.absmax
            tensors[f"{prefix}.nested_quant_map"] = self.nested.code
        state = torch.frombuffer(bytearray(self.state), dtype=torch.uint8)
        tensors[f"{prefix}{STATE_PREFIX}{self.quant_type}"] = state
        return tensors

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
        if self.nested is None:
            return self.absmax.float()
        scales = self.nested.absmax.repeat_interleave(self.nested.blocksize)[: self.absmax.numel()]
        looked_up = self.nested.code.index_select(0, self.absmax.int())
        return looked_up.mul_(scales).add_(self.nested.offset)

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
        meaning += [self.nested.offset, self.nested.blocksize] if self.nested else []
        digest.update(json.dumps(meaning).encode())
        return digest.hexdigest()

    def _check(self, name: str) -> None:
        blocks = -(-self.numel // self.blocksize)
        expected: dict[str, tuple[Tensor, torch.dtype, int]] = {
            "": (self.data, torch.uint8, -(-self.numel // 2)),
            ".absmax": (self.absmax, torch.uint8 if self.nested else torch.float32, blocks),
            ".quant_map": (self.code, torch.float32, 16),
        }
        if self.nested:
            groups = -(-blocks // self.nested.blocksize)
            expected[".nested_absmax"] = (self.nested.absmax, torch.float32, groups)
            expected[".nested_quant_map"] = (self.nested.code, torch.float32, 256)
        for suffix, (tensor, dtype, numel) in expected.items():
            if tensor.dtype != dtype or tensor.numel() != numel:
                raise QuantizedWeightError(
                    f"{name + suffix}: {tensor.dtype} with {tensor.numel()} elements, expected "
                    f"{dtype} with {numel} for a weight of shape {list(self.shape)}"
                )


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
