"""Readers of adapters and bases: artifact, PEFT directories, placement, headers of a checkpoint."""

import json
import zipfile
from functools import partial
from pathlib import Path
from random import Random

import torch
from safetensors.torch import save

from exporter.base.checkpoint import open_checkpoint
from exporter.inspection import inspect_adapter
from tests.fuzz.fuzzer import Reader, malformed_json, mutated_bytes, mutated_value
from tinylora import load_adapter
from tinylora.adapters.upstream.placement import read_placement

FIELDS = {
    "global_v": torch.linspace(-1e-3, 1e-3, 8, dtype=torch.bfloat16), "u_value": 8, "rank": 2,
    "seed": 42, "model_id": "a/b", "total_replaced_layers": 14, "is_quantized": True,
    "formula": "diagonal", "more": {"list": [1, 2.5, "x"], "none": None},
}  # fmt: skip
VECTORS = (torch.ones(8), torch.ones(0), torch.ones(2, 4), torch.full((8,), float("nan")))
VECTORS += (torch.ones(8, dtype=torch.int64), torch.ones(8, dtype=torch.complex64))
OPCODES = [bytes([code]) for code in b"()]}.0K\x85\x86\x87QRbcghijrstuaeX\x8a\x88\x89N\x80"]
PEFT = {
    "peft_type": "TINYLORA", "base_model_name_or_path": "a/b", "r": 2, "u": 4, "weight_tying": 0.5,
    "projection_seed": 5, "save_projection": True, "target_modules": ["q_proj"], "bias": "none",
    "task_type": "CAUSAL_LM", "tinylora_dropout": 0.0,
}  # fmt: skip
LORA = {
    "peft_type": "LORA", "base_model_name_or_path": "a/b", "r": 2, "lora_alpha": 4, "bias": "none",
    "target_modules": ["q_proj", "v_proj"], "rank_pattern": {"v_proj": 3}, "use_rslora": False,
    "alpha_pattern": {"layers.0.self_attn.q_proj": 1.5}, "init_lora_weights": True,
}  # fmt: skip
Q, V = (f"model.model.layers.0.self_attn.{name}_proj" for name in "qv")
PEFT_SHAPES = {"tinylora_v.0": (4,), "tinylora_v.1": (4,)}
for _module in (Q, V):
    PEFT_SHAPES |= {f"{_module}.tinylora_A": (2, 16), f"{_module}.tinylora_B": (8, 2)}
    PEFT_SHAPES |= {f"{_module}.tinylora_P": (4, 2, 2)}
LORA_SHAPES = {f"{Q}.lora_A.weight": (2, 16), f"{Q}.lora_B.weight": (8, 2)}
LORA_SHAPES |= {f"{V}.lora_A.weight": (3, 16), f"{V}.lora_B.weight": (8, 3)}
CONFIG = {
    "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "hidden_size": 64,
    "intermediate_size": 160, "num_hidden_layers": 1, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 96, "max_position_embeddings": 64, "pad_token_id": 0,
    "tie_word_embeddings": True, "dtype": "bfloat16", "text_config": {"hidden_size": 64},
    "quantization_config": {"load_in_4bit": True, "llm_int8_skip_modules": ["lm_head"]},
}  # fmt: skip


def write_artifact(random: Random, folder: Path) -> Path:
    path = folder / "tiny_lora_v.pt"
    fields = dict(FIELDS)
    kind = random.randrange(4)
    if kind == 0:  # odd values, saved as torch does
        fields = mutated_value(random, {k: v for k, v in fields.items() if k != "global_v"})
        if isinstance(fields, dict):
            fields["global_v"] = random.choice((FIELDS["global_v"], *VECTORS))
    try:
        torch.save(fields, path)
    except Exception:  # some odd values cannot be saved
        torch.save(FIELDS, path)
    if kind in (1, 2):  # another pickle in a sound archive
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        name = next(name for name in members if name.endswith("data.pkl"))
        members[name] = mutated_bytes(random, members[name], OPCODES)
        with zipfile.ZipFile(path, "w") as archive:
            for member, content in members.items():
                archive.writestr(member, content)
    if kind == 3:
        path.write_bytes(mutated_bytes(random, path.read_bytes(), (b"PK\x03\x04", b"PK\x05\x06")))
    return path


def write_directory(
    fields: dict[str, object], shapes: dict[str, tuple[int, ...]], random: Random, folder: Path
) -> Path:
    """A PEFT adapter, its configuration or the header of its weights malformed."""
    tensors = {f"base_model.{name}": torch.ones(shape) for name, shape in shapes.items()}
    weights, config = save(tensors), json.dumps(fields).encode()
    if random.random() < 0.6:
        config = malformed_json(random, fields)
    else:
        size = int.from_bytes(weights[:8], "little")
        header = malformed_json(random, json.loads(weights[8 : 8 + size]))
        weights = len(header).to_bytes(8, "little") + header + weights[8 + size :]
    (folder / "adapter_config.json").write_bytes(config)
    (folder / "adapter_model.safetensors").write_bytes(weights)
    return folder


def write_placement(random: Random, folder: Path) -> Path:
    path = folder / "device_map.json"
    path.write_bytes(malformed_json(random, {"": 0, "model.layers.1": "cuda:1", "lm_head": "cpu"}))
    return path


def write_base(random: Random, folder: Path) -> Path:
    tensors = {f"model.layers.0.{n}.weight": torch.ones(4, 4) for n in ("a", "b")}
    files = {"config.json": json.dumps(CONFIG).encode(), "model.safetensors": save(tensors)}
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(tensors, "w.safetensors")}
    kind = random.randrange(3)
    if kind == 0:
        files["config.json"] = malformed_json(random, CONFIG)
    elif kind == 1:
        files["model.safetensors"] = mutated_bytes(random, save(tensors), (b'{"', b"F32"))
    else:
        files["w.safetensors"] = files.pop("model.safetensors")
        files["model.safetensors.index.json"] = malformed_json(random, index)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def read_artifact(path: Path) -> None:
    json.dumps(inspect_adapter(path).as_dict())
    assert load_adapter(path).sha256


def read_base(path: Path) -> None:
    base = open_checkpoint(path)
    for name in base.tensors:
        base.read(name)


READERS = (
    Reader("artifact", write_artifact, read_artifact),
    Reader("peft-adapter", partial(write_directory, PEFT, PEFT_SHAPES), read_artifact),
    Reader("lora-adapter", partial(write_directory, LORA, LORA_SHAPES), read_artifact),
    Reader("placement", write_placement, lambda path: read_placement(str(path))),
    Reader("base-headers", write_base, read_base),
)
