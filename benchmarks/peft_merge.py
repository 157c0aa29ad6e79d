"""PEFT's way to fold a LoRA into a 4-bit model: load in 4 bits, attach, merge, save.

python -m benchmarks.peft_merge --base DIR --adapter DIR --out DIR
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig


def merge(base: Path, adapter: Path, out: Path) -> str:
    """Merge and save; returns how it was saved."""
    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float16,
    )
    model = AutoModelForCausalLM.from_pretrained(
        base, quantization_config=settings, dtype=torch.bfloat16, device_map="cpu"
    )
    merged = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    try:
        merged.save_pretrained(out)
    except NotImplementedError:
        # transformers 5 cannot save every model that it has loaded; this is what it would write
        out.mkdir(parents=True, exist_ok=True)
        save_file(_state(merged), out / "model.safetensors", metadata={"format": "pt"})
        merged.config.save_pretrained(out)
        return "save_file of the state dict, as save_pretrained is not implemented for this model"
    return "save_pretrained"


def _state(model: Any) -> dict[str, torch.Tensor]:
    """The state dict without the aliases of tied weights."""
    tied = set(model.all_tied_weights_keys)
    state = model.state_dict()
    return {name: tensor.contiguous() for name, tensor in state.items() if name not in tied}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--base", "--adapter", "--out"):
        parser.add_argument(name, type=Path, required=True)
    args = parser.parse_args()
    print(merge(args.base, args.adapter, args.out))


if __name__ == "__main__":
    main()
