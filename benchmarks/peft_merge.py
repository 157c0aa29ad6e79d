"""PEFT's way to fold a LoRA into a 4-bit model: load in 4 bits, attach, merge, save.

python -m benchmarks.peft_merge BASE ADAPTER OUT
"""

import sys
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig


def merge(base: Path, adapter: Path, out: Path) -> None:
    """Merge and save."""
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
    # transformers 5 cannot save every model that it has loaded; this is what it would write
    out.mkdir(parents=True, exist_ok=True)
    tied = set(merged.all_tied_weights_keys)
    state = {n: t.contiguous() for n, t in merged.state_dict().items() if n not in tied}
    save_file(state, out / "model.safetensors", metadata={"format": "pt"})
    merged.config.save_pretrained(out)


if __name__ == "__main__":
    merge(*map(Path, sys.argv[1:]))
