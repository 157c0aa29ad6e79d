"""Words about files that are no artifact of upstream's, but are often taken for one."""

import torch

_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # magic number of the old torch.save
_FACTORS = frozenset({"U", "S", "V", "Vh", "P", "v", "U_r", "Sigma_r", "V_r", "lora_A", "lora_B"})


def words_about_file(name: str, content: bytes) -> str | None:
    """What a file that is no zip archive is, and what can be done; None where that is not known."""
    if content.startswith(_OLD_TORCH):
        return (
            "saved in the format that torch.save had before version 1.6, which is not read here; "
            "load and save it again on the machine that trained it, so that its device stays in "
            "the file: torch.save(torch.load(path, weights_only=True), path)"
        )
    if name.endswith(".safetensors"):
        return (
            "a safetensors file, no tiny_lora_v.pt; of a PEFT adapter give the directory, which "
            "holds adapter_config.json too"
        )
    return None


def words_about_content(loaded: object) -> str | None:
    """What something that torch.load gave is, and what can be done; None where it is not known."""
    if isinstance(loaded, torch.Tensor):
        return (
            f"holds a tensor {list(loaded.shape)} alone, as upstream's first releases saved the "
            "trained vector: without the seed (they set none) its random projections, and so its "
            "delta, cannot be rebuilt. If you know seed, rank and formula, write a complete file "
            "with tinylora.save_artifact; else train again with a release that saves them"
        )
    if isinstance(loaded, dict) and "global_v" not in loaded and _names_factors(loaded):
        return (
            "holds factors of modules or a vector v (such as U, S, V, P), as other TinyLoRA "
            "projects save them, and not upstream's global_v with its seed. Their formulas differ, "
            "so merge it with the project that made it, or save it there as a PEFT adapter and "
            "give that directory"
        )
    return None


def _names_factors(loaded: dict[object, object]) -> bool:
    """Whether a key, or a key of a dict in it, ends in the name of a factor."""
    keys = [str(key) for key in loaded]
    keys += [str(key) for inner in loaded.values() if isinstance(inner, dict) for key in inner]
    return any(not _FACTORS.isdisjoint(key.split(".")[-2:]) for key in keys)
