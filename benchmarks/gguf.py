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
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import llama_cpp
import torch
from torch import Tensor
from transformers import AutoTokenizer

from benchmarks.harness import parser, table, write_page
from benchmarks.real.train import scaled
from benchmarks.real.ways import kept_json
from exporter import ExportRequest, export
from exporter.compare.float32_model import restored_model
from exporter.formats.gguf import DTYPES
from tinylora import DeltaOptions, FactorStore, load_artifact
from tinylora.models.float32_view import in_float32
from tinylora.models.token_divergence import kept, kl_divergence

TYPES = {"Q8_0": 7, "Q4_K_M": 15, "Q4_0": 2}  # llama.h, enum llama_ftype
REAL_SIZE = 3e-5  # mean |v| of published files
TEXTS = Path("demo/prompts/heldout.jsonl")
COLUMNS = ("route", "MB", "KL", "retention", "top-1", "change missed")
ODD = ("  a\n\n\tb", "你好，世界 1234567", "I'll don't 'RE", "x==y&&z||!w  // 🚀 é", "<|im_end|>")


@dataclass(frozen=True)
class Outside:
    """What transformers computes, one float32 ``[tokens, vocabulary]`` for each text."""

    base: Sequence[Tensor]
    restored: Sequence[Tensor]

    @property
    def effect(self) -> float:
        return divergence(self.restored, self.base)


def divergence(reference: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    parts = [kl_divergence(r, o).double() for r, o in zip(reference, other, strict=True)]
    return float(torch.cat(parts).mean())


def same_choice(reference: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    pairs = zip(reference, other, strict=True)
    return float(torch.cat([r.argmax(-1) == o.argmax(-1) for r, o in pairs]).double().mean())


def change_missed(outside: Outside, own: Sequence[Tensor], route: Sequence[Tensor]) -> float:
    missed = wanted = 0.0
    for before, after, base, restored in zip(
        own, route, outside.base, outside.restored, strict=True
    ):
        right, found = restored - base, after - before
        missed += float((found - right).double().square().sum())
        wanted += float(right.double().square().sum())
    return (missed / wanted) ** 0.5


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


def in_llama_cpp(texts: Sequence[list[int]], model: Path, lora: Path | None = None) -> list[Tensor]:
    engine, logits = load(model, lora), []
    for ids in texts:
        engine.reset()
        engine.eval(ids)
        logits.append(torch.from_numpy(engine.scores[: len(ids)].copy()))
    engine.close()
    del engine
    gc.collect()
    return logits


@torch.no_grad()
def in_transformers(texts: Sequence[list[int]], model: Any) -> list[Tensor]:
    return [model(torch.tensor([ids])).logits[0].float() for ids in texts]


def outside(base: Path, artifact: Path, store: Path, texts: Sequence[list[int]]) -> Outside:
    options = DeltaOptions(svd="exact")
    model, restoration = restored_model(base, artifact, options, store=FactorStore(store))
    restored = in_transformers(texts, in_float32(model).eval())
    restoration.remove()
    return Outside(in_transformers(texts, model), restored)


def quantized(model: Path, kind: str) -> Path:
    out = model.with_name(f"{model.stem}-{kind}.gguf")
    if out.is_file():
        return out
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype, settings.nthread = TYPES[kind], torch.get_num_threads()
    failed = llama_cpp.llama_model_quantize(
        str(model).encode(), str(out).encode(), ctypes.byref(settings)
    )
    assert not failed, out
    return out


class Bench:
    """Files of one model in a folder, and what llama.cpp computes with them."""

    def __init__(self, base: Path, artifact: Path, store: Path, folder: Path, tokens: int) -> None:
        self.base, self.artifact, self.store, self.folder = base, artifact, store, folder
        self.tokenizer = AutoTokenizer.from_pretrained(base)
        lines = [json.loads(line) for line in TEXTS.read_text().splitlines()]
        self.whole = [line["prompt"] + line["completion"] for line in lines]
        self.texts = [self.tokenizer(text).input_ids[: tokens // 4] for text in self.whole[:4]]

    @cached_property
    def plain(self) -> Path:
        """The base in float32."""
        nothing = self.folder / "nothing.pt"
        scaled(self.artifact, 0.0, nothing)
        return self.exported(nothing, "gguf") / "model.gguf"

    def cuts(self) -> str:
        """How often llama.cpp cuts a text as transformers does."""
        engine, texts = load(self.plain), [*self.whole, *ODD]
        same = [
            engine.tokenize(t.encode(), True, True) == self.tokenizer(t).input_ids for t in texts
        ]
        engine.close()
        other = [text for text, equal in zip(texts, same, strict=True) if not equal]
        shown = f"; not {other[0]!r:.60}" if other else ""
        return f"llama.cpp cuts {sum(same)} of {len(texts)} texts as transformers{shown}."

    def exported(self, artifact: Path, format: str, **options: Any) -> Path:
        out = self.folder / "-".join((artifact.stem, format, *options.values()))
        request = ExportRequest(
            self.base,
            artifact,
            out,
            format=format,
            factor_store=self.store,
            options=DeltaOptions(svd="exact"),
            **options,
        )
        if not out.is_dir():
            export(request)
        return out

    def section(self, size: float, types: Sequence[str]) -> list[str]:
        """A sentence for one size of v, and its table."""
        artifact = self.folder / f"{size:g}.pt"
        scaled(self.artifact, size, artifact)
        known = outside(self.base, artifact, self.store, self.texts)
        own = in_llama_cpp(self.texts, self.plain)
        floor, effect = divergence(known.base, own), known.effect
        rows = [self.row("base, f32", self.plain, own, own, known, floor)]
        rows += self.rows(artifact, types, known, own, floor)
        said = f"mean |v| {size:.1e}: KL(restored‖base) {effect:.3g}, floor {floor:.2g}."
        return [said, table(COLUMNS, rows)]

    def rows(
        self,
        artifact: Path,
        types: Sequence[str],
        known: Outside,
        own: list[Tensor],
        floor: float,
    ) -> Iterator[tuple[object, ...]]:
        lora = self.exported(artifact, "gguf-lora") / "adapter_model.gguf"
        for dtype in (dtype for dtype in DTYPES if dtype in types):
            file = self.exported(artifact, "gguf", gguf_dtype=dtype) / "model.gguf"
            route = in_llama_cpp(self.texts, file)
            yield self.row(f"merged, {dtype}", file, route, own, known, floor)
        route = in_llama_cpp(self.texts, self.plain, lora)
        yield self.row("base f32 + gguf-lora", self.plain, route, own, known, floor)
        for kind in (kind for kind in TYPES if kind in types):
            file = quantized(self.plain, kind)
            own = in_llama_cpp(self.texts, file)
            yield self.row(f"base {kind}", file, own, own, known, floor)
            route = in_llama_cpp(self.texts, file, lora)
            yield self.row(f"base {kind} + gguf-lora", file, route, own, known, floor)
            merged = self.exported(artifact, "gguf", gguf_dtype="f32") / "model.gguf"
            file = quantized(merged, kind)
            route = in_llama_cpp(self.texts, file)
            yield self.row(f"merged, then {kind}", file, route, own, known, floor)

    def row(
        self,
        name: str,
        file: Path,
        route: list[Tensor],
        own: list[Tensor],
        known: Outside,
        floor: float,
    ) -> tuple[object, ...]:
        found = divergence(known.restored, route)
        share = kept(found, known.effect, floor)
        return (
            name,
            f"{file.stat().st_size / 1e6:.1f}",
            f"{found:.2e}",
            "too small to see" if share is None else f"{share.retention:.4f}",
            f"{same_choice(known.restored, route):.3f}",
            f"{change_missed(known, own, route):.2g}",
        )


def make_page(
    name: str,
    base: Path,
    artifact: Path,
    build: Path,
    out: Path,
    sizes: Sequence[float] | None = None,
    types: Sequence[str] = (*DTYPES, *TYPES),
    tokens: int = 256,
) -> None:
    """Write ``gguf-NAME.md``; factors and what was measured before are taken from ``build``."""
    own = float(load_artifact(artifact).global_v.float().abs().mean())
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(base, artifact, build / "factors", Path(folder), tokens)
        kept = build / "gguf"
        parts = [kept_json(kept / "cuts.json", bench.cuts)]
        for size in sizes or (own, REAL_SIZE):
            path = kept / f"{'-'.join([f'{size:.3g}', str(tokens), *types])}.json"
            parts += kept_json(path, partial(bench.section, size, types))
    count = sum(map(len, bench.texts))
    said = f"{count} tokens of {TEXTS}; llama-cpp-python {llama_cpp.__version__}."
    write_page(out / f"gguf-{name}.md", __doc__, said, *parts)


def main() -> None:
    options = parser(__doc__, "real")
    options.add_argument("--base", type=Path, required=True)
    options.add_argument("--artifact", type=Path, required=True)
    options.add_argument("--name", required=True, help="the page is gguf-NAME.md")
    options.add_argument("--build", type=Path, help="default: build/gguf/NAME")
    options.add_argument("--sizes", type=float, nargs="+", help="mean |v|; default: own and 3e-5")
    known = (*DTYPES, *TYPES)
    options.add_argument("--types", nargs="+", choices=known, default=known, help="of files")
    options.add_argument("--tokens", type=int, default=256)
    args = options.parse_args()
    build = args.build or Path("build/gguf") / args.name
    given = args.sizes, args.types, args.tokens
    make_page(args.name, args.base, args.artifact, build, args.out, *given)


if __name__ == "__main__":
    main()
