"""GGUF exports, read back with the gguf package and with transformers' own GGUF loader."""

import json
import re
import shutil
import sys

import gguf
import pytest
import torch
import transformers
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from exporter import verify
from exporter.errors import PlanError, RequestError
from tests.exporter.conftest import edited, same_tensors
from tests.exporter.formats.conftest import DEMO

# what transformers calls a tensor -> what llama.cpp does
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def llama_name(name):
    module, _, kind = name.rpartition(".")
    if layer := re.fullmatch(r"model\.layers\.(\d+)\.(.+)", module):
        return f"blk.{layer[1]}.{NAMES[layer[2]]}.{kind}"
    return f"{NAMES[module]}.{kind}"


def tensors_of(file):
    """Tensors by name, in torch's shapes, read with the gguf package."""
    found = {}
    for tensor in gguf.GGUFReader(file).tensors:
        data = torch.from_numpy(tensor.data.copy())
        dtype = TYPES[tensor.tensor_type.name]
        found[tensor.name] = data.view(dtype).view([int(n) for n in reversed(tensor.shape)])
    return found


def settings_of(file):
    return {name: field.contents() for name, field in gguf.GGUFReader(file).fields.items()}


def write_pieces(directory, size):
    """A tokenizer as SentencePiece's are: bytes for what is unknown, visible spaces."""
    letters = ["\u2581", *"abcdefgh"]
    merges = [("\u2581", "a"), ("b", "c"), ("\u2581a", "bc"), ("d", "e")]
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{i:02X}>" for i in range(256)), *letters]
    tokens += ["".join(pair) for pair in merges]
    vocab = {token: number for number, token in enumerate(tokens)}
    assert len(vocab) <= size
    backend = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True))
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    backend.decoder = decoders.ByteFallback()
    special = {name: f"<{name.removesuffix('_token')}>" for name in ("pad_token", "unk_token")}
    special |= {"eos_token": "<eos>", "bos_token": "<bos>"}
    PreTrainedTokenizerFast(tokenizer_object=backend, **special).save_pretrained(directory)
    return tokens, merges


@pytest.fixture(scope="module")
def llama(make_family):
    return make_family("Llama", tie_word_embeddings=False)


@pytest.fixture
def demo(run):
    """``demo(format, name)``: an export of the demo."""

    def call(format, **fields):
        return run(DEMO / "base", DEMO / "tiny_lora_v.pt", format, **fields).out

    return call


@pytest.mark.parametrize(
    ("dtype", "dense", "number"), [("f32", "fp32", 0), ("bf16", "bf16", 32), ("f16", "fp16", 1)]
)
def test_tensors_are_those_of_the_dense_export(demo, dtype, dense, number):
    file = demo("gguf", gguf_dtype=dtype) / "model.gguf"
    said, stored = settings_of(file), tensors_of(file)
    assert said["general.type"] == "model" and said["general.file_type"] == number
    expected = load_file(demo(dense, name="dense") / "model.safetensors")
    vectors_in_f32 = {n: t.float() if t.dim() == 1 else t for n, t in expected.items()}
    same_tensors(stored, {llama_name(name): t for name, t in vectors_in_f32.items()})


def test_the_tokenizer_section_is_the_tokenizer(demo):
    found = settings_of(demo("gguf") / "model.gguf")
    content = json.loads((DEMO / "base" / "tokenizer.json").read_text())
    tokens = dict(content["model"]["vocab"])
    tokens |= {token["content"]: token["id"] for token in content["added_tokens"]}
    assert {text: number for number, text in enumerate(found["tokenizer.ggml.tokens"])} == tokens
    merges = [m if isinstance(m, str) else " ".join(m) for m in content["model"]["merges"]]
    assert found == found | {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": (DEMO / "base" / "chat_template.jinja").read_text(),
    }
    kinds = found["tokenizer.ggml.token_type"]
    for token in content["added_tokens"]:
        assert kinds[token["id"]] == (3 if token["special"] else 4)  # control, user-defined
    assert kinds.count(1) == len(tokens) - len(content["added_tokens"])


def test_pieces_are_merged_in_the_order_of_their_scores(run, make_family, make_artifact):
    base = make_family("Gemma2", sliding_window=32, query_pre_attn_scalar=16)
    tokens, merges = write_pieces(base, 1536)
    out = run(base, make_artifact(0.1), "gguf").out
    found = settings_of(out / "model.gguf")
    assert found["tokenizer.ggml.model"] == "llama"
    assert found["tokenizer.ggml.add_space_prefix"] is True
    assert found["tokenizer.ggml.tokens"][: len(tokens)] == tokens
    assert found["tokenizer.ggml.tokens"][len(tokens)] == f"[PAD{len(tokens)}]"
    scores = dict(zip(tokens, found["tokenizer.ggml.scores"], strict=False))
    in_order = ["".join(pair) for pair in merges]
    assert sorted(in_order, key=lambda piece: -scores[piece]) == in_order
    kinds = found["tokenizer.ggml.token_type"]
    # control, unknown, byte, normal, unused
    assert [kinds[i] for i in (0, 3, 4, 260, len(tokens))] == [3, 2, 6, 1, 5]


@pytest.mark.filterwarnings("ignore")  # of the library's own loading
@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("Llama", {"tie_word_embeddings": False}),
        ("Qwen2", {"head_dim": 12}),
    ],
)
def test_transformers_reads_the_same_model_back(run, make_family, make_artifact, family, settings):
    base, artifact = make_family(family, **settings), make_artifact(0.1)
    out = run(base, artifact, "gguf").out
    dense = run(base, artifact, "fp32", name="dense").out
    tokens = torch.arange(3, 35).unsqueeze(0)
    with torch.no_grad():
        back = AutoModelForCausalLM.from_pretrained(
            out, gguf_file="model.gguf", dtype=torch.float32
        )
        model = AutoModelForCausalLM.from_pretrained(dense)
        wanted = model(tokens).logits
        torch.testing.assert_close(back.eval()(tokens).logits, wanted, rtol=1e-4, atol=1e-4)
    assert back.config.max_position_embeddings == model.config.max_position_embeddings


def test_a_pair_is_what_a_merge_adds(run, llama, make_artifact):
    artifact, nothing = make_artifact(0.1), make_artifact(0.0)
    pair = tensors_of(run(llama, artifact, "gguf-lora").out / "adapter_model.gguf")
    merged = tensors_of(run(llama, artifact, "gguf", name="merged").out / "model.gguf")
    plain = tensors_of(run(llama, nothing, "gguf", name="plain").out / "model.gguf")
    names = {name.removesuffix(".lora_a") for name in pair if name.endswith("a")}
    assert names == {name for name in merged if not torch.equal(merged[name], plain[name])}
    for name in names:
        added = pair[f"{name}.lora_b"] @ pair[f"{name}.lora_a"]
        torch.testing.assert_close(merged[name] - plain[name], added, rtol=1e-3, atol=1e-6)


def test_the_lora_is_the_lora_export(demo):
    found = demo("gguf-lora") / "adapter_model.gguf"
    wanted = {}
    for name, tensor in load_file(demo("lora", name="lora") / "adapter_model.safetensors").items():
        module, _, part = name.removeprefix("base_model.model.").rpartition(".lora_")
        wanted[f"{llama_name(f'{module}.weight')}.lora_{part[0].lower()}"] = tensor
    same_tensors(tensors_of(found), wanted)
    said = settings_of(found)
    assert said["general.type"] == "adapter" and said["adapter.type"] == "lora"
    assert said["adapter.lora.alpha"] == 2.0  # the rank, so that nothing is scaled


def test_frequencies_of_llama3_are_scaled_as_in_transformers(run, make_family, make_artifact):
    rope = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0}
    rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 32}
    base = make_family("Llama", rope_parameters=rope, head_dim=64)
    stored = tensors_of(run(base, make_artifact(0.1), "gguf").out / "model.gguf")
    config = transformers.AutoConfig.from_pretrained(base)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    plain = 500000.0 ** -(torch.arange(0, 64, 2).double() / 64)
    torch.testing.assert_close(
        stored["rope_freqs.weight"].double(), plain / scaled.double(), rtol=1e-5, atol=0
    )
    assert len(set(stored["rope_freqs.weight"].tolist())) > 2  # kept, between, divided


@pytest.mark.parametrize(
    ("family", "settings", "words"),
    [
        ("Mistral", {}, "type 'mistral' cannot be written as GGUF; the types are llama, qwen2"),
        ("Llama", {"hidden_act": "gelu"}, "the activation 'gelu'"),
        ("Gemma2", {"query_pre_attn_scalar": 99}, "query_pre_attn_scalar 99"),
        ("Qwen3", {"attention_bias": True}, "attention_bias"),
        (
            "Qwen2",
            {"head_dim": 12, "use_sliding_window": True, "max_window_layers": 0},
            "layer_types",
        ),
        (
            "Llama",
            {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
            "rope_type 'dynamic'",
        ),
        (
            "Gemma3Text",
            {
                "rope_parameters": {
                    "full_attention": {"rope_type": "default", "rope_theta": 1e6},
                    "sliding_attention": {"rope_type": "linear", "rope_theta": 1e4, "factor": 8.0},
                },
            },
            "rope_type 'linear' for layers in a window",
        ),
    ],
)
@pytest.mark.parametrize("format", ["gguf", "gguf-lora"])
def test_what_llama_cpp_would_compute_otherwise_is_refused(
    run, make_family, make_artifact, tmp_path, family, settings, words, format
):
    with pytest.raises(PlanError, match=words):
        run(make_family(family, **settings), make_artifact(0.1), format)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda c: c["model"].update(merges=[]), "it has no merges"),
        (
            lambda c: c["added_tokens"].append(
                c["added_tokens"][-1] | {"id": 1600, "content": "!?"}
            ),
            r"the token 1\d+, the model 1536 rows",
        ),
    ],
)
def test_a_tokenizer_that_llama_cpp_does_not_have_is_refused(run, tmp_path, edit, words):
    base = shutil.copytree(DEMO / "base", tmp_path / "qwen2-mini")
    content = json.loads((base / "tokenizer.json").read_text())
    edit(content)
    (base / "tokenizer.json").write_text(json.dumps(content))
    (base / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>"}'
    )
    with pytest.raises(PlanError, match=words):
        run(base, DEMO / "tiny_lora_v.pt", "gguf")


def test_a_base_without_tokenizer_is_refused(run, base, artifact):
    with pytest.raises(PlanError, match=r"none of tokenizer\.json, .* copy the tokenizer's files"):
        run(base, artifact, "gguf")
    assert run(base, artifact, "gguf-lora").verdict == "kept"  # it needs none


def test_what_is_said_of_odd_tensors_is_true_of_a_gguf_file(run, tmp_path):
    def change(tensors):
        tensors["model.extra.weight"] = torch.ones(4)
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].flip(0).contiguous()

    odd = edited(DEMO / "base", tmp_path / "b", change)
    report = run(odd, DEMO / "tiny_lora_v.pt", "gguf")
    assert "extra" not in " ".join(tensors_of(report.out / "model.gguf"))
    unused, own_head = (w for w in report.warnings if "config.json" in w)
    assert "not carried into" in unused and "of this export" not in own_head


@pytest.mark.parametrize("format", ["gguf", "gguf-lora"])
def test_without_the_package_the_extra_is_named(run, base, artifact, monkeypatch, format):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(RequestError, match=r"pip install 'tinylora-export\[gguf\]'"):
        run(base, artifact, format)


def test_an_export_is_verified(demo):
    for format, name in (("gguf", "model.gguf"), ("gguf-lora", "adapter_model.gguf")):
        out = demo(format, name=format)
        assert verify(out).ok
        file = out / name
        file.write_bytes(file.read_bytes()[:-64])
        wrong = [problem for check in verify(out).checks for problem in check.problems]
        assert any("has been changed" in problem for problem in wrong)
        assert any(f"{name}: not a readable GGUF file" in problem for problem in wrong)


def test_another_scale_is_found(demo):
    out = demo("gguf-lora")
    file = out / "adapter_model.gguf"
    reader = gguf.GGUFReader(file, "r+")
    reader.get_field("adapter.lora.alpha").parts[-1][:] = 16.0
    reader.data.flush()
    wrong = {check.name: check.problems for check in verify(out).checks}
    assert any("another scale than 1" in problem for problem in wrong["adapter would attach"])
