"""The recipes of docs/serving.md: every Python block runs, and gives the model it says it gives."""

import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from exporter import ExportRequest, export
from exporter.formats import registry

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "serving.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
FORMATS = ("bf16", "nf4", "nf4-embedded", "lora")
TOKENS = torch.arange(5, 37).unsqueeze(0)


def block_of(format_: str) -> str:
    """The one block that loads a format's directory."""
    (found,) = (block for block in BLOCKS if f'"exports/{format_}"' in block)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A directory with the demo's base and an artifact of its size, exported in every format."""
    folder = tmp_path_factory.mktemp("serving")
    (folder / "base").symlink_to(ROOT / "demo" / "base")
    for format_ in FORMATS:
        artifact, out = ROOT / "demo" / "tiny_lora_v.pt", folder / "exports" / format_
        export(ExportRequest(folder / "base", artifact, out, format_, factor_store=folder / "f"))
    return folder


@torch.no_grad()
def logits(model) -> torch.Tensor:
    return model.eval()(TOKENS).logits.double()


@pytest.fixture
def load(folder, monkeypatch):
    def run(format_: str):
        monkeypatch.chdir(folder)
        names: dict[str, object] = {}
        exec(compile(block_of(format_), f"serving.md {format_}", "exec"), names)
        return names["model"]

    return run


def test_every_block_belongs_to_a_format():
    assert sorted(BLOCKS) == sorted(block_of(format_) for format_ in FORMATS)


@pytest.mark.filterwarnings("ignore")  # of the libraries' own loading
def test_recipes_give_the_adapted_model(load, folder):
    restored = logits(load("lora"))
    change = restored - logits(AutoModelForCausalLM.from_pretrained(folder / "exports" / "nf4"))
    for format_ in ("nf4-embedded", "bf16"):
        error = logits(load(format_)) - restored
        # the base alone would give 1; what remains is the forward pass rounding to bf16
        assert float(error.norm() / change.norm()) < 0.3, format_


@pytest.mark.filterwarnings("ignore")
def test_the_nf4_recipe_loads_four_bits(load):
    model = load("nf4")
    assert type(model.get_submodule("model.layers.0.mlp.up_proj")).__name__ == "Linear4bit"


def test_formats_of_the_table_are_those_of_the_exporter():
    column = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    named = set(re.findall(r"`([^`]+)`", "".join(column)))
    assert named <= set(registry.FORMATS) and set(FORMATS) <= named
