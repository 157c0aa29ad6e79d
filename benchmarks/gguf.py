"""What llama.cpp makes of GGUF exports

    python -m benchmarks.gguf --base BASE --artifact tiny_lora_v.pt --name NAME

Every route into llama.cpp beside the restored model of transformers (the 4-bit base with the
adapter, in float32), on the same tokens. Needs the package llama-cpp-python, which builds llama.cpp
on this machine. It runs with a float32 cache and without flash attention, so that what is measured
is the file.

KL is mean KL(restored‖route) in nats; retention is 1 − KL(restored‖route)/KL(restored‖base). The
floor is KL(base in transformers‖the same base, f32, in llama.cpp): what other arithmetic does to an
equal model. A quantized base is another model than the
one of training, so its retention is low or negative whatever becomes of the adapter. So the last
column compares each file with the base *of the same type* in llama.cpp: ‖change − wanted change‖ /
‖wanted change‖ of logits, 0 where the adapter does what it did in training, 1 where nothing is left
of it, and more where there is noise instead.
"""

import ctypes
import gc
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import llama_cpp
import torch
from torch import Tensor
from torch.linalg import vector_norm
from transformers import AutoTokenizer

from benchmarks.harness import kept_json, parser, scaled, table, write_page
from exporter import ExportRequest, export
from exporter.compare.float32_model import restored_model
from exporter.formats.gguf import DTYPES
from tinylora import DeltaOptions, FactorStore, load_artifact
from tinylora.models.float32_view import in_float32
from tinylora.models.token_divergence import kept, kl_divergence

TYPES = {"Q8_0": 7, "Q4_K_M": 15, "Q4_0": 2}  # llama.h, enum llama_ftype
REAL_SIZE = 3e-5  # mean |v| of published files
TEXTS, TOKENS = Path("demo/prompts/heldout.jsonl"), 256
COLUMNS = ("route", "MB", "KL", "retention", "top-1", "change missed")
ODD = ("  a\n\n\tb", "你好，世界 1234567", "I'll don't 'RE", "x==y&&z||!w  // 🚀 é", "<|im_end|>")
EXACT = DeltaOptions(svd="exact")


def load(model: Path, lora: Path | None = None) -> Any:
    return llama_cpp.Llama(
        str(model),
        lora_path=None if lora is None else str(lora),
        n_ctx=512,
        logits_all=True,
        flash_attn=False,
        type_k=llama_cpp.GGML_TYPE_F32,
        type_v=llama_cpp.GGML_TYPE_F32,
        n_threads=torch.get_num_threads(),
        n_threads_batch=torch.get_num_threads(),
        verbose=False,
    )


def in_llama_cpp(texts: Sequence[list[int]], model: Path, lora: Path | None = None) -> Tensor:
    """Logits of all texts, float32 ``[tokens, vocabulary]``."""
    engine, logits = load(model, lora), []
    for ids in texts:
        engine.reset()
        engine.eval(ids)
        logits.append(torch.from_numpy(engine.scores[: len(ids)].copy()))
    engine.close()
    del engine
    gc.collect()
    return torch.cat(logits)


@torch.no_grad()
def in_transformers(texts: Sequence[list[int]], model: Any) -> Tensor:
    """The same of transformers."""
    return torch.cat([model(torch.tensor([ids])).logits[0].float() for ids in texts])


def divergence(reference: Tensor, other: Tensor) -> float:
    return float(kl_divergence(reference, other).double().mean())


def quantized(model: Path, kind: str) -> Path:
    out = model.with_name(f"{model.stem}-{kind}.gguf")
    if not out.is_file():
        settings = llama_cpp.llama_model_quantize_default_params()
        settings.ftype, settings.nthread = TYPES[kind], torch.get_num_threads()
        names = str(model).encode(), str(out).encode()
        failed = llama_cpp.llama_model_quantize(*names, ctypes.byref(settings))
        assert not failed, out
    return out


class Bench:
    """Files of one model in a folder, and what llama.cpp computes with them."""

    def __init__(self, base: Path, trained: Path, store: Path, folder: Path) -> None:
        self.base, self.trained, self.store, self.folder = base, trained, store, folder
        self.tokenizer = AutoTokenizer.from_pretrained(base)
        lines = [json.loads(line) for line in TEXTS.read_text().splitlines()]
        self.whole = [line["prompt"] + line["completion"] for line in lines]
        self.texts = [self.tokenizer(text).input_ids[: TOKENS // 4] for text in self.whole[:4]]
        self.plain = self.exported(self.of_size(0.0), "gguf") / "model.gguf"  # base in float32

    def of_size(self, size: float) -> Path:
        """The trained artifact, brought to a mean |v|."""
        artifact = self.folder / f"{size:g}.pt"
        scaled(self.trained, size, artifact)
        return artifact

    def exported(self, artifact: Path, format: str, **options: Any) -> Path:
        out = self.folder / "-".join((artifact.stem, format, *options.values()))
        request = ExportRequest(
            self.base, artifact, out, format, factor_store=self.store, options=EXACT, **options
        )
        return export(request).out

    def page(self) -> list[str]:
        """A sentence about tokens; a sentence and a table for the trained size and the real one."""
        trained = float(load_artifact(self.trained).global_v.float().abs().mean())
        count, version = sum(map(len, self.texts)), llama_cpp.__version__
        about = f"{count} tokens of {TEXTS}; llama-cpp-python {version}."
        return [about, self.cuts(), *self.section(trained), *self.section(REAL_SIZE)]

    def cuts(self) -> str:
        """How often llama.cpp cuts a text as transformers does."""
        engine, texts = load(self.plain), [*self.whole, *ODD]
        other = [
            text
            for text in texts
            if engine.tokenize(text.encode(), True, True) != self.tokenizer(text).input_ids
        ]
        engine.close()
        shown = f"; not {other[0]!r:.60}" if other else ""
        same = len(texts) - len(other)
        return f"llama.cpp cuts {same} of {len(texts)} texts as transformers{shown}."

    def routes(self, artifact: Path) -> Iterator[tuple[str, Path, Path | None]]:
        """Name, file and adapter of every route; the routes of each type begin with its base."""
        lora = self.exported(artifact, "gguf-lora") / "adapter_model.gguf"
        merged = {d: self.exported(artifact, "gguf", gguf_dtype=d) / "model.gguf" for d in DTYPES}
        yield "base, f32", self.plain, None
        for dtype, file in merged.items():
            yield f"merged, {dtype}", file, None
        yield "base f32 + gguf-lora", self.plain, lora
        for kind in TYPES:
            base = quantized(self.plain, kind)
            yield f"base {kind}", base, None
            yield f"base {kind} + gguf-lora", base, lora
            yield f"merged, then {kind}", quantized(merged["f32"], kind), None

    def section(self, size: float) -> list[str]:
        """A sentence for one size of v, and its table."""
        artifact, store = self.of_size(size), FactorStore(self.store)
        model, restoration = restored_model(self.base, artifact, EXACT, store=store)
        restored = in_transformers(self.texts, in_float32(model).eval())
        restoration.remove()
        base = in_transformers(self.texts, model)
        wanted, effect = restored - base, divergence(restored, base)
        floor = divergence(base, in_llama_cpp(self.texts, self.plain))
        rows = []
        for name, file, lora in self.routes(artifact):
            found = in_llama_cpp(self.texts, file, lora)
            if name.startswith("base") and lora is None:
                own = found
            apart = divergence(restored, found)
            share = kept(apart, effect, floor)
            same = (found.argmax(-1) == restored.argmax(-1)).double().mean()
            missed = vector_norm(found - own - wanted, dtype=torch.float64)
            missed /= vector_norm(wanted, dtype=torch.float64)
            rows.append((
                name, f"{file.stat().st_size / 1e6:.1f}", f"{apart:.2e}",
                "too small to see" if share is None else f"{share.retention:.4f}",
                f"{same:.3f}", f"{missed:.2g}",
            ))  # fmt: skip
        said = f"mean |v| {size:.1e}: KL(restored‖base) {effect:.3g}, floor {floor:.2g}."
        return [said, table(COLUMNS, rows)]


def make_page(name: str, base: Path, artifact: Path, build: Path, out: Path) -> None:
    """Write ``gguf-NAME.md``; factors and what was measured before are taken from ``build``."""

    def measured() -> list[str]:
        with TemporaryDirectory() as folder:
            return Bench(base, artifact, build / "factors", Path(folder)).page()

    write_page(out / f"gguf-{name}.md", __doc__, *kept_json(build / "gguf.json", measured))


def main() -> None:
    options = parser(__doc__, "real")
    options.add_argument("--base", type=Path, required=True)
    options.add_argument("--artifact", type=Path, required=True)
    options.add_argument("--name", required=True, help="the page is gguf-NAME.md")
    args = options.parse_args()
    make_page(args.name, args.base, args.artifact, Path("build/gguf") / args.name, args.out)


if __name__ == "__main__":
    main()
