"""The recipes of docs/serving.md: blocks that can run here do, and give the model they say.

The programs that answer requests are started as the page starts them, but for the port.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from benchmarks.harness import scaled
from exporter import ExportRequest, export
from exporter.formats import registry
from exporter.serving import ENGINES

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "serving.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
COMMANDS = "".join(re.findall(r"^```sh\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE))
FORMATS = ("bf16", "nf4", "nf4-embedded", "lora", "gguf", "gguf-lora")
PLACES = (*FORMATS, "parts")  # of what the blocks load
TOKENS = torch.arange(5, 37).unsqueeze(0)
SECONDS = 120  # for a server to start on a busy machine
llama_cpp = pytest.mark.skipif(not find_spec("llama_cpp"), reason="needs llama-cpp-python")


def block_of(place: str) -> str:
    """The one block that loads a directory."""
    (found,) = (
        block for block in BLOCKS if f'"exports/{place}' in block and f"{place}-" not in block
    )
    return found


def command_with(words: str) -> list[str]:
    """The one command of the page that has these words."""
    (found,) = (line for line in COMMANDS.splitlines() if words in line)
    return found.split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A directory with the demo's base, and its artifact exported in every format."""
    folder = tmp_path_factory.mktemp("serving")
    (folder / "base").symlink_to(ROOT / "demo" / "base")
    scaled(ROOT / "demo" / "tiny_lora_v.pt", 0.0, folder / "nothing.pt")
    wanted = [(name, ROOT / "demo" / "tiny_lora_v.pt", f"exports/{name}") for name in FORMATS]
    for name, file, out in [*wanted, ("gguf", folder / "nothing.pt", "plain")]:
        request = ExportRequest(
            folder / "base", file, folder / out, name, factor_store=folder / "f"
        )
        export(request)
    (folder / "base.gguf").symlink_to(folder / "plain" / "model.gguf")
    tinylora_export(folder, *command_with("tinylora-export split")[1:])
    return folder


def tinylora_export(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "exporter", *arguments]
    path = {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=folder, env=os.environ | path, capture_output=True, text=True
    )


@torch.no_grad()
def logits(model) -> torch.Tensor:
    return model.eval()(TOKENS).logits.double()


@pytest.fixture
def load(folder, monkeypatch):
    def run(place: str):
        monkeypatch.chdir(folder)
        names: dict[str, object] = {}
        exec(compile(block_of(place), f"serving.md {place}", "exec"), names)
        return names["model"]

    return run


def test_every_block_loads_one_directory():
    assert sorted(BLOCKS) == sorted(block_of(place) for place in PLACES)


@pytest.mark.filterwarnings("ignore")  # of the libraries' own loading
def test_recipes_give_the_adapted_model(load, folder):
    restored = logits(load("lora"))
    change = restored - logits(AutoModelForCausalLM.from_pretrained(folder / "exports" / "nf4"))
    for place in ("nf4-embedded", "parts", "bf16"):
        error = logits(load(place)) - restored
        # the base alone would give 1; what remains is the forward pass rounding to bf16
        assert float(error.norm() / change.norm()) < 0.3, place


@pytest.mark.filterwarnings("ignore")
def test_the_nf4_recipe_loads_four_bits(load):
    model = load("nf4")
    assert type(model.get_submodule("model.layers.0.mlp.up_proj")).__name__ == "Linear4bit"


@llama_cpp
@pytest.mark.filterwarnings("ignore")
def test_recipes_in_llama_cpp_give_the_adapted_model(load, monkeypatch):
    import llama_cpp as library

    class EveryToken(library.Llama):  # the page's calls, with the logits of each token kept
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, logits_all=True, **options)

    monkeypatch.setattr(library, "Llama", EveryToken)
    restored = logits(load("bf16").float())[0]
    for place in ("gguf", "gguf-lora"):
        model = load(place)
        model.reset()
        model.eval(TOKENS[0].tolist())
        found = torch.from_numpy(model.scores[: TOKENS.shape[1]].copy()).double()
        assert float((found - restored).norm() / restored.norm()) < 0.02, place


@pytest.fixture
def served(folder):
    """``served(command, model)``: what a server of the page answers to a chat."""
    running = []

    def ask(command: list[str], model: str) -> str:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [str(port) if word == "8000" else word for word in command]
        (folder / "hub").mkdir(exist_ok=True)
        settings = {"HF_HUB_CACHE": str(folder / "hub"), "HF_HUB_OFFLINE": "1"}
        log = folder / "server.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=os.environ | settings,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        running.append(process)
        body = {"model": model, "messages": [{"role": "user", "content": "int main() {"}]}
        body |= {"max_tokens": 8, "temperature": 0}
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/chat/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        last = time.monotonic() + SECONDS
        while True:
            try:
                with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                    return json.load(answer)["choices"][0]["message"]["content"]
            except urllib.error.HTTPError as error:
                pytest.fail(f"{error.read().decode()}\n{log.read_text()[-2000:]}")
            except OSError:  # it is not up yet
                up = process.poll() is None and time.monotonic() < last
                assert up, log.read_text()[-2000:]
                time.sleep(0.2)

    yield ask
    for process in running:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@llama_cpp
@pytest.mark.skipif(not find_spec("starlette_context"), reason="needs llama-cpp-python[server]")
def test_the_server_of_llama_cpp_answers(served):
    command = command_with("python -m llama_cpp.server")
    assert served([sys.executable, *command[1:]], "any")


@pytest.mark.skipif(
    not (find_spec("openai") and find_spec("uvicorn")), reason="needs transformers[serving]"
)
def test_the_server_of_transformers_answers(served):
    command = command_with("transformers serve")
    program = Path(sys.executable).with_name("transformers")
    assert served([str(program), *command[1:]], command[2])


def test_the_command_that_asks_what_vllm_does_says_no_to_an_embedded_adapter(folder):
    command = command_with("--serves vllm")
    found = tinylora_export(folder, *command[1:])
    assert found.returncode == 1 and "tinylora-export split" in " ".join(found.stderr.split())


def test_what_the_page_says_of_each_program_is_what_the_tool_says():
    page = " ".join(PAGE.split())
    for engine in ENGINES.values():
        assert f"{engine.about}:" in page
        for answer in set(engine.answers.values()):
            formats = [f"`{name}`" for name, same in engine.answers.items() if same == answer]
            line = f"- {', '.join(formats)}: {'yes' if answer.serves else 'no'}; {answer.text}."
            assert line in page


def test_the_table_is_what_the_tool_says_of_every_format():
    lines = [line.split("|")[1:-1] for line in PAGE.splitlines() if line.startswith("| `")]
    table = {cells[0].strip(" `"): [cell.strip() for cell in cells[1:]] for cells in lines}
    assert table == {
        format_: ["yes" if e.answers[format_].serves else "no" for e in ENGINES.values()]
        for format_ in registry.FORMATS
    }
