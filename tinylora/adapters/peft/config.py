"""``adapter_config.json`` of a PEFT TinyLoRA adapter (PEFT 0.19 and later), as untrusted input."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from tinylora.adapters.adapter import MAX_PROJECTION, MAX_RANK, MAX_U
from tinylora.adapters.peft_directory import AdapterConfig

METHOD = "TINYLORA"


class PeftConfig(AdapterConfig):
    """The fields that decide an adapter's delta.

    Attributes:
        r: Rank; a module with a shorter side has that side's length instead.
        u: Length of each trained vector.
        weight_tying: 0.0: a vector for each module, 1.0: one for all.
        projection_seed: Seed of P where P is not stored.
    """

    without_effect: ClassVar[frozenset[str]] = frozenset(
        {"auto_mapping", "exclude_modules", "inference_mode", "init_v_bound", "init_weights"}
        | {"layers_pattern", "layers_to_transform", "peft_version", "revision", "target_modules"}
        | {"task_type", "tinylora_dropout"}
    )
    peft_type: Literal["TINYLORA"]
    r: Annotated[int, Field(ge=1, le=MAX_RANK)]
    u: Annotated[int, Field(ge=1, le=MAX_U)]
    weight_tying: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
    projection_seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]
    save_projection: bool

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (size := self.u * self.r**2) > MAX_PROJECTION:
            raise ValueError(
                f"u = {self.u} with r = {self.r} makes projections of {size} numbers a module, "
                f"expected at most {MAX_PROJECTION}"
            )
        return self
