"""The demo's models in the real vLLM beside transformers; `docs/engines.md` says how to run it."""

import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from importlib import import_module
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
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of vLLM and its children
    vllm = import_module("evaluator.generation.backends.vllm")

pytestmark = pytest.mark.filterwarnings("ignore")

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


def demo_prompts():
    problems = load_suite(DEMO / "suite" / "heldout").first(12).problems
    return build_prompts(problems, load_tokenizer(BASE), "base")[0]


@pytest.fixture(scope="module")
def prompts():
    return demo_prompts()


def made_by(backend, arm, decoding, prompts, dtype="float32"):
    """What the backend makes, as a run asks for it, one batch after the other."""
    files = find_checkpoint(arm)
    request = ModelRequest(
        arm,
        backend.describe(arm, Asked(prompts, decoding, frozenset()), files),
        files,
        decoding,
        decoding.seed,
        dtype,
        torch.device("cpu"),
        Path("unused"),
        longest=max(len(prompt.token_ids) for prompt in prompts) + decoding.max_new_tokens,
    )
    size = 1 if backend.by_row else decoding.batch_size
    with backend.load(request) as model:
        yield from model.complete_all(plan_batches(prompts, decoding, size))


def texts(*arguments, **options):
    """(problem, sample) -> completion."""
    return {
        (row.prompt.problem, row.sample): one._replace(engine="")
        for made in made_by(*arguments, **options)
        for row, one in zip(made.batch, made.completions, strict=True)
    }


def both(arm, decoding, prompts, **options):
    return (texts(one.BACKEND, arm, decoding, prompts, **options) for one in (vllm, transformers))


RUN = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from evaluator.config.run_config import ArmConfig, DecodingConfig
from tests.evaluator.generation.backends import test_vllm as tests
if __name__ == "__main__":
    arm = ArmConfig(name="fp32", kind="merged", model={model!r})
    decoding = DecodingConfig(max_new_tokens=80, batch_size=2)
    for _ in tests.made_by(tests.vllm.BACKEND, arm, decoding, tests.demo_prompts()):
        print("a text", flush=True)
"""

RULES = {
    "greedy": {"repetition_penalty": None},
    "greedy with a penalty": {"repetition_penalty": 1.2},
    "sampled": {"temperature": 0.8, "samples": 2},
    "up to the fence": {"temperature": 0.8, "samples": 2, "stop": "closing_fence"},
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
    assert equal >= len(expected) - 1  # other kernels may flip a near-tie


def test_another_model_than_is_meant_is_refused(exports):
    embedded = ArmConfig(name="e", kind="merged", model=str(exports("nf4-embedded")))
    vector = ArmConfig(name="v", kind="restored", model=str(BASE), artifact=ARTIFACT)
    for arm, words in ((embedded, "embeds an adapter.*split"), (vector, "a LoRA of rank 512")):
        with pytest.raises(ConfigError, match=f"arm {arm.name}: .*{words}"):
            vllm.BACKEND.describe(
                arm, Asked((), DecodingConfig(), frozenset()), find_checkpoint(arm)
            )


def test_logits_that_are_not_numbers_end_in_words(tmp_path, exports, prompts):
    broken = shutil.copytree(exports("fp32"), tmp_path / "broken")
    tensors = load_file(broken / "model.safetensors")
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, broken / "model.safetensors", {"format": "pt"})
    arm = ArmConfig(name="fp32", kind="merged", model=str(broken))
    with pytest.raises(ModelError, match="arm fp32: vLLM stopped"):
        texts(vllm.BACKEND, arm, DecodingConfig(max_new_tokens=20), prompts)


def processes():
    """(process, its parent, command line) of all that run."""
    listed = subprocess.check_output(["ps", "-eo", "pid,ppid,args"], text=True).splitlines()[1:]
    for line in listed:
        process, parent, words = line.split(maxsplit=2)
        yield int(process), int(parent), words


def test_engines_end_with_a_run_that_is_killed(exports, tmp_path):
    """A script that starts an engine and is killed while it writes."""
    script = tmp_path / "script.py"
    script.write_text(RUN.format(root=str(DEMO.parent), model=str(exports("fp32"))))
    run = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    assert run.stdout.readline() == "a text\n"
    engines = {one for one, parent, words in processes() if parent == run.pid and "VLLM" in words}
    workers = {one for one, parent, _ in processes() if parent in engines}
    run.kill()
    run.wait()
    assert engines
    for _ in range(60):
        left = {one for one, _, words in processes() if "<defunct>" not in words}
        if not left & (engines | workers):
            break
        time.sleep(0.5)
    assert not left & (engines | workers)


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGTERM])
def test_an_engine_that_is_killed_ends_in_words_and_loses_no_text(exports, prompts, kill):
    arm = ArmConfig(name="fp32", kind="merged", model=str(exports("fp32")))
    decoding, seen = DecodingConfig(max_new_tokens=80, batch_size=2), []
    with pytest.raises(ModelError, match="arm fp32: vLLM stopped"):
        for made in made_by(vllm.BACKEND, arm, decoding, prompts):
            seen.append(made.completions[0])
            for process, parent, words in processes():
                if parent == os.getpid() and "EngineCore" in words:
                    os.kill(process, kill)
    assert seen and all(one.finish_reason == "stop" for one in seen)


def test_what_vllm_cannot_load_is_said_in_words(tmp_path, exports):
    broken = shutil.copytree(exports("fp32"), tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"torn")
    arm = ArmConfig(name="fp32", kind="merged", model=str(broken))
    with pytest.raises(ModelError, match=f"arm fp32: vLLM cannot load {broken}"):
        texts(vllm.BACKEND, arm, DecodingConfig(max_new_tokens=20), demo_prompts())
