"""GGUF exports in llama.cpp itself, where llama-cpp-python is installed: logits of transformers."""

import pytest
import torch
from transformers import AutoModelForCausalLM

pytest.importorskip("llama_cpp")

from benchmarks.gguf import in_llama_cpp  # noqa: E402

IDS = torch.arange(3, 51).mul(29).remainder(1500)
# With a window of 8 and 6 layers, the last of which sees everything.
GEMMA = {"query_pre_attn_scalar": 16, "sliding_window": 8, "num_hidden_layers": 6}
FAMILIES = {
    "Llama": {"tie_word_embeddings": False},
    "Qwen2": {"head_dim": 12},
    "Qwen3": {},
    "Gemma": {},
    "Gemma2": GEMMA,
    "Gemma3Text": GEMMA,
}


@torch.no_grad()
def in_transformers(directory):
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    return model(IDS.unsqueeze(0)).logits[0]


@pytest.mark.filterwarnings("ignore")  # of the libraries' own loading
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_in_llama_cpp_are_those_of_the_dense_export(run, make_family, make_artifact, family):
    base = make_family(family, initializer_range=0.3, **FAMILIES[family])
    modules = 7 * FAMILIES[family].get("num_hidden_layers", 2)
    artifact, nothing = make_artifact(0.1, modules), make_artifact(0.0, modules)
    wanted = in_transformers(run(base, artifact, "fp32", name="dense").out)
    plain = in_transformers(run(base, nothing, "fp32", name="plain").out)
    merged = run(base, artifact, "gguf").out / "model.gguf"
    alone = run(base, nothing, "gguf", name="base").out / "model.gguf"
    lora = run(base, artifact, "gguf-lora", name="lora").out / "adapter_model.gguf"
    change = (wanted - plain).norm()
    assert change > 0.01 * plain.norm()  # else nothing would be seen of an adapter left out
    for found in (in_llama_cpp([IDS.tolist()], merged), in_llama_cpp([IDS.tolist()], alone, lora)):
        # llama.cpp takes the gelu of Gemma from a table in half precision
        assert (found - wanted).norm() < (3e-3 if "Gemma" in family else 1e-4) * change
