"""PEFT's TinyLoRA: a directory with v, A, B, and P or a seed."""

from tinylora.adapters.inspection import Inspection, about_modules, about_vector, vector_summary
from tinylora.adapters.options import TrainedOn
from tinylora.adapters.peft.adapter import PeftAdapter, load_peft_adapter
from tinylora.adapters.peft.config import METHOD
from tinylora.adapters.peft.deltas import PeftDeltas
from tinylora.adapters.peft_dialect import PeftDialect, about_base, about_weights


class PeftTinyLoRADialect(PeftDialect):
    """See :class:`tinylora.adapters.adapter.Dialect`."""

    kind, method, load, made = PeftAdapter, METHOD, staticmethod(load_peft_adapter), PeftDeltas

    def inspect(self, adapter: PeftAdapter, trained_on: TrainedOn) -> Inspection:
        """The vectors, and how they are shared."""
        config = adapter.config
        facts = {
            "directory": adapter.path.name,
            "sha256": adapter.sha256,
            "dialect": "PEFT TinyLoRA",
            "base_model_name_or_path": config.base,
            "modules": len(adapter.shapes),
            "rank": config.r,
            "u": config.u,
            "vectors": adapter.vectors.shape[0],
            "weight_tying": config.weight_tying,
            "projection": "stored" if config.save_projection else f"seed {config.projection_seed}",
            "v": vector_summary(adapter.vectors),
        }
        remarks = [about_modules(adapter.shapes), *about_vector(adapter.vectors, "v")]
        remarks += about_base(adapter)
        if not config.save_projection:
            remarks.append(
                "the projections are drawn again from the seed, numbered by the base's module "
                "order; --format peft-tinylora stores them"
            )
        if_16bit = (
            "PEFT trains TinyLoRA on 16-bit weights, and dense exports add it to those; if the "
            "base was in 4 bits all the same"
        )
        remarks.append(about_weights(trained_on, if_16bit))
        takes = "factors as stored in the adapter"
        return Inspection(adapter, facts, "v", takes, tuple(remarks))
