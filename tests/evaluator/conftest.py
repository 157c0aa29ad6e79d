"""A tiny chat model with its tokenizer, a small suite, and an artifact that fits the model."""

import json
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import tiny_config

TEMPLATE = (
    "{% for m in messages %}<|user|>{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def tiny_tokenizer():
    """Byte-level tokens without merges: any text goes through it unchanged."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"]
    options = {"initial_alphabet": pre_tokenizers.ByteLevel.alphabet(), "show_progress": False}
    trainer = trainers.BpeTrainer(vocab_size=260, special_tokens=special, **options)
    tokenizer.train_from_iterator([], trainer)
    options = {"pad_token": "<|pad|>", "eos_token": "<|end|>", "chat_template": TEMPLATE}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **options)


def statement(k: int) -> str:
    """Of problem Sk: even ones in Chinese, longer with k, so that lengths differ."""
    return f"Print a + {k}." if k % 2 else f"输出 a + {k}。" + "长" * k


def program(k: int, sign: str) -> str:
    """Right for problem Sk with the sign +."""
    # cstdio compiles several times as fast as iostream
    return f'#include<cstdio>\nint main(){{int a;scanf("%d",&a);printf("%d",a{sign}{k});}}'


def _teach(model, tokenizer) -> None:
    """Make the model write the right program or, as often, one with the wrong sign."""
    import torch

    rows, starts = [], []
    for k in range(6):
        for sign in "+-":
            prompt = f"<|user|>{statement(k)}<|assistant|>"
            rows.append(tokenizer(prompt + program(k, sign) + "<|end|>")["input_ids"])
            starts.append(len(tokenizer(prompt)["input_ids"]))
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    labels = ids.clone()
    for index, (row, start) in enumerate(zip(rows, starts, strict=True)):
        labels[index, :start] = -100
        labels[index, len(row) :] = -100
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3)
    for step in range(150):
        optimizer.param_groups[0]["lr"] = 6e-3 * min(1, step / 20) * (1 - step / 150)
        loss = model(input_ids=ids, attention_mask=(ids != 0).long(), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def small_config(tokenizer, **changes):
    """Of a model that speaks with this tokenizer."""
    sizes = {"hidden_size": 64, "intermediate_size": 128, "max_position_embeddings": 512}
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    return tiny_config(**sizes, **ends, **changes)


@pytest.fixture(scope="session")
def chat_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a bf16 Qwen2 checkpoint that writes right and wrong programs."""
    import torch
    from transformers import Qwen2ForCausalLM

    directory = tmp_path_factory.mktemp("chat-base")
    tokenizer = tiny_tokenizer()
    config = small_config(tokenizer, vocab_size=264)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Qwen2ForCausalLM(config)
        _teach(model, tokenizer)
    model.to(torch.bfloat16).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def chat_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact for ``chat_base`` whose delta is large enough to change texts."""
    return write_artifact(tmp_path_factory.mktemp("artifact"), 0.05, "tiny/chat-base", layers=14)


def write_artifact(folder: Path, largest: float, model_id: str, layers: int) -> Path:
    """An artifact whose vector lies between -largest and largest."""
    import torch

    from tinylora import save_artifact

    save_artifact(
        folder / "tiny_lora_v.pt",
        global_v=torch.linspace(-largest, largest, 8).to(torch.bfloat16),
        rank=2,
        seed=7,
        model_id=model_id,
        total_replaced_layers=layers,
        formula="full",
    )
    return folder / "tiny_lora_v.pt"


@pytest.fixture
def sum_suite(tmp_path: Path) -> Path:
    """Six problems "print a + k" with two tests each, in two languages."""
    return write_sum_suite(tmp_path / "suite")


def write_sum_suite(folder: Path) -> Path:
    """The suite of the fixture ``sum_suite``."""
    folder.mkdir()
    (folder / "suite.json").write_text('{"format": "tinylora-suite/1", "name": "sums"}')
    rows = [
        {
            "id": f"S{k}",
            "statement": statement(k),
            "family": f"f{k % 3}",
            "language": "en" if k % 2 else "zh",
            "tests": [{"name": str(a), "input": f"{a}\n", "output": f"{a + k}\n"} for a in (1, 20)],
        }
        for k in range(6)
    ]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "problems.jsonl").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def config_of(chat_base, chat_artifact, sum_suite, tmp_path):
    """A function that writes a configuration, with changes, and gives its path."""
    from tests.evaluator.whole_runs import write_config

    named = {"base": chat_base, "artifact": chat_artifact, "suite": sum_suite}
    return partial(write_config, tmp_path / "config.yaml", out=tmp_path / "out", **named)


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Base, artifact and suite of runs that take a second; see quick_model.py."""
    from tests.evaluator.quick_model import write_quick_base

    folder = tmp_path_factory.mktemp("quick")
    write_quick_base(folder / "base", tiny_tokenizer())
    artifact = write_artifact(folder, 0.5, "quick", layers=7)
    suite = write_sum_suite(folder / "suite")
    return {"base": folder / "base", "artifact": artifact, "suite": suite}


@pytest.fixture
def quick_config(quick, tmp_path):
    """``quick_config(out, **changes)`` writes the configuration of a quick run."""
    from tests.evaluator.whole_runs import write_quick_config

    return lambda out, **changes: write_quick_config(tmp_path, out=out, **{**quick, **changes})


@pytest.fixture(scope="session")
def run_server(quick, tmp_path_factory):
    """Makes runs in forked processes; see run_child.py."""
    from tests.evaluator.whole_runs import write_quick_config
    from tests.forked import ForkServer

    folder = tmp_path_factory.mktemp("first")
    config = write_quick_config(folder, out=folder / "out", **quick)
    server = ForkServer("tests.evaluator.run_child", {"config": str(config)})
    yield server
    server.close()


@pytest.fixture(scope="session")
def whole(chat_base, chat_artifact, tmp_path_factory):
    """(directory, results, progress) of an uninterrupted default run; not to be changed."""
    from tests.evaluator.whole_runs import make, write_config

    folder, seen = tmp_path_factory.mktemp("whole"), []
    named = {"base": chat_base, "artifact": chat_artifact, "out": folder / "out"}
    path = write_config(folder / "c.yaml", suite=write_sum_suite(folder / "suite"), **named)
    return (*make(path, progress=lambda *event: seen.append(event)), seen)


@pytest.fixture(scope="session")
def sandbox():
    """The best sandbox of this machine."""
    from evaluator.judging.sandbox.sandbox import probe_sandbox

    return probe_sandbox()
