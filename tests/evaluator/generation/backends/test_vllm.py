"""The demo's models in the real vLLM beside transformers; `docs/engines.md` says how to run it."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from evaluator.config.run_config import ArmConfig, DecodingConfig
from evaluator.errors import ConfigError, ModelError
from evaluator.generation.backend import Asked, ModelRequest
from evaluator.generation.backends import transformers
from evaluator.generation.checkpoints import find_checkpoint
from evaluator.generation.prompts import build_prompts, plan_batches
from evaluator.suites.suite import load_suite
from exporter import ExportRequest, export
from tinylora.models.chat import load_tokenizer

pytest.importorskip("vllm", reason="vLLM has an environment of its own")
vllm = pytest.importorskip("evaluator.generation.backends.vllm")

pytestmark = pytest.mark.filterwarnings("ignore")  # of vLLM and its children

DEMO = Path(__file__).parents[4] / "demo"
BASE, ARTIFACT = DEMO / "base", DEMO / "tiny_lora_v.pt"


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """``exports(format)``: the demo's adapter in a format, made on first use."""
    folder = tmp_path_factory.mktemp("exports")

    def made(format):
        out = folder / format
        if not out.exists():
            export(ExportRequest(BASE, ARTIFACT, out, format))
        return out

    return made


@pytest.fixture(scope="module")
def prompts():
    problems = load_suite(DEMO / "suite" / "heldout").first(12).problems
    return build_prompts(problems, load_tokenizer(BASE), "base")[0]


def texts(backend, arm, decoding, prompts, dtype="float32"):
    """(problem, sample) -> completion, as a run asks for them."""
    files = find_checkpoint(arm)
    asked = Asked(prompts, decoding.samples, frozenset())
    facts = backend.describe(arm, asked, files)
    cpu, factors = torch.device("cpu"), Path("unused")
    request = ModelRequest(arm, facts, files, decoding, decoding.seed, dtype, cpu, factors)
    size = 1 if backend.by_row else decoding.batch_size
    with backend.load(request) as model:
        made = list(model.complete_all(plan_batches(prompts, decoding, size)))
    return {
        (row.prompt.problem, row.sample): one._replace(engine="")
        for some in made
        for row, one in zip(some.batch, some.completions, strict=True)
    }


def both(arm, decoding, prompts, **options):
    return (texts(one.BACKEND, arm, decoding, prompts, **options) for one in (vllm, transformers))


RULES = {
    "greedy": {},
    "greedy with a penalty": {"repetition_penalty": 1.2},
    "sampled": {"temperature": 0.8, "samples": 2},
    "sampled by all rules": {
        "temperature": 1.2,
        "samples": 2,
        "top_p": 0.9,
        "top_k": 20,
        "repetition_penalty": 1.1,
    },
}


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_texts_are_those_of_transformers(exports, prompts, rules):
    arm = ArmConfig(name="fp32", kind="merged", model=str(exports("fp32")))
    decoding = DecodingConfig(
        max_new_tokens=80, batch_size=5, **{"repetition_penalty": 1.0, **rules}
    )
    found, expected = both(arm, decoding, prompts)
    assert len(expected) == 12 * decoding.samples
    assert found == expected


def test_a_lora_on_its_base_writes_what_the_restored_model_does(exports, prompts):
    lora = ArmConfig(name="r", kind="restored", model=str(BASE), artifact=exports("lora"))
    decoding = DecodingConfig(
        temperature=0.8, max_new_tokens=80, batch_size=5, repetition_penalty=1.0
    )
    found, expected = both(lora, decoding, prompts)
    base = texts(vllm.BACKEND, ArmConfig(name="b", kind="base", model=str(BASE)), decoding, prompts)
    assert found == expected != base


def test_a_4_bit_export_is_computed_by_the_plugin(exports, prompts):
    arm = ArmConfig(name="nf4", kind="merged", model=str(exports("nf4")))
    decoding = DecodingConfig(max_new_tokens=80, batch_size=5, repetition_penalty=1.0)
    found, expected = both(arm, decoding, prompts, dtype="bfloat16")
    equal = sum(found[key].text == one.text for key, one in expected.items())
    assert equal > len(expected) / 2


def test_another_model_than_is_meant_is_refused(exports):
    embedded = ArmConfig(name="e", kind="merged", model=str(exports("nf4-embedded")))
    vector = ArmConfig(name="v", kind="restored", model=str(BASE), artifact=ARTIFACT)
    for arm, words in ((embedded, "embeds an adapter.*split"), (vector, "a LoRA of rank 512")):
        with pytest.raises(ConfigError, match=f"arm {arm.name}: .*{words}"):
            vllm.BACKEND.describe(arm, Asked((), 1, frozenset()), find_checkpoint(arm))


def test_logits_that_are_not_numbers_end_in_words(tmp_path, exports, prompts):
    broken = shutil.copytree(exports("fp32"), tmp_path / "broken")
    tensors = load_file(broken / "model.safetensors")
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, broken / "model.safetensors", {"format": "pt"})
    arm = ArmConfig(name="fp32", kind="merged", model=str(broken))
    with pytest.raises(ModelError, match="arm fp32: vLLM stopped"):
        texts(vllm.BACKEND, arm, DecodingConfig(repetition_penalty=1.0), prompts)


def test_what_vllm_cannot_load_is_said_in_words(tmp_path, exports):
    broken = shutil.copytree(exports("fp32"), tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"torn")
    arm = ArmConfig(name="fp32", kind="merged", model=str(broken))
    with pytest.raises(ModelError, match=f"arm fp32: vLLM cannot load {broken}"):
        texts(vllm.BACKEND, arm, DecodingConfig(), ())
