"""Completions: ours (batched, left-padded, sorted) beside the upstream way, one prompt at a time.

The demo base in 4 bits as the trainer loads it, computing in float32, writes greedy completions of
64 held-out problems: with the evaluator's own stage, with one ``generate`` call a prompt, and with
transformers' continuous batching where it runs. The texts have to be the same.

    python -m benchmarks.generation [--prompts 64]      writes results/bench/generation.md
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from benchmarks.measure import machine
from evaluator.config.run_config import ArmConfig, DecodingConfig
from evaluator.generation.backend import ModelRequest
from evaluator.generation.backends.transformers import BACKEND, TransformersModel
from evaluator.generation.batches import plan_batches
from evaluator.generation.checkpoints import find_checkpoint
from evaluator.generation.prompts import Prompt, build_prompts
from evaluator.suites.suite import load_suite
from tinylora.models.chat import load_tokenizer

BASE, SUITE = Path("demo/base"), Path("demo/suite/heldout")
MAX_NEW_TOKENS = 192
WANTED = 6.0
ARM = ArmConfig(name="base", kind="base", model=str(BASE), load="nf4")
Texts = dict[str, str]


@dataclass(frozen=True)
class Timed:
    """One way: its texts by problem and the seconds that it took."""

    way: str
    texts: Texts
    seconds: float


def chosen_prompts(count: int, tokenizer: PreTrainedTokenizerBase) -> tuple[Prompt, ...]:
    """As many prompts, spread over the suite."""
    problems = load_suite(SUITE).problems
    chosen = problems[:: max(1, len(problems) // count)][:count]
    return build_prompts(chosen, tokenizer, ARM.name)


def ours(batch_size: int) -> Callable[[TransformersModel, tuple[Prompt, ...]], Texts]:
    """The evaluator's own batches, without its files."""

    def texts(generator: TransformersModel, prompts: tuple[Prompt, ...]) -> Texts:
        return {
            row.prompt.problem: completion.text
            for batch in plan_batches(prompts, decoding(batch_size))
            for row, completion in zip(batch, generator.complete(batch), strict=True)
        }

    return texts


def decoding(batch_size: int) -> DecodingConfig:
    return DecodingConfig(max_new_tokens=MAX_NEW_TOKENS, batch_size=batch_size)


def one_by_one(generator: TransformersModel, prompts: tuple[Prompt, ...]) -> Texts:
    """One call of ``generate`` a prompt, in the suite's order."""
    texts = {}
    for prompt in prompts:
        ids = torch.tensor([prompt.token_ids])
        with torch.inference_mode():
            out = generator.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=MAX_NEW_TOKENS,
                eos_token_id=list(generator.end_ids),
                pad_token_id=generator.pad_id,
            )
        texts[prompt.problem] = text_of(generator, out[0, ids.shape[1] :].tolist())
    return texts


def continuous(generator: TransformersModel, prompts: tuple[Prompt, ...]) -> Texts:
    """Continuous batching of transformers; RuntimeError where it returns nothing."""
    config = GenerationConfig(
        do_sample=False,
        max_new_tokens=MAX_NEW_TOKENS,
        eos_token_id=list(generator.end_ids),
        pad_token_id=generator.pad_id,
    )
    inputs = [list(prompt.token_ids) for prompt in prompts]
    outputs = list(generator.model.generate_batch(inputs, generation_config=config).values())
    failed = [output.error for output in outputs if output.error is not None]
    if failed or len(outputs) < len(prompts):
        raise RuntimeError(f"{len(outputs)} of {len(prompts)} requests ended, {failed[:1]}")
    return {
        prompt.problem: text_of(generator, output.generated_tokens)
        for prompt, output in zip(prompts, outputs, strict=True)
    }


def text_of(generator: TransformersModel, tokens: list[int]) -> str:
    ends = [i for i, token in enumerate(tokens) if token in generator.end_ids]
    written = tokens[: ends[0]] if ends else tokens
    return str(generator.tokenizer.decode(written, clean_up_tokenization_spaces=False))


def timed(
    way: str,
    function: Callable[[TransformersModel, tuple[Prompt, ...]], Texts],
    generator: TransformersModel,
    prompts: tuple[Prompt, ...],
) -> Timed:
    function(generator, prompts[:2])  # warm-up
    start = time.perf_counter()
    texts = function(generator, prompts)
    return Timed(way, texts, time.perf_counter() - start)


def measure(prompt_count: int) -> tuple[list[Timed], str]:
    """All ways in one process on one model, and a word on continuous batching if it failed."""
    tokenizer = load_tokenizer(BASE)
    prompts = chosen_prompts(prompt_count, tokenizer)
    with tempfile.TemporaryDirectory() as factors:
        request = ModelRequest(
            arm=ARM,
            checkpoint=find_checkpoint(ARM),
            decoding=decoding(1),
            seed=0,
            compute_dtype="float32",
            device=torch.device("cpu"),
            factors=Path(factors),
        )
        with BACKEND.load(request) as model:
            results = [
                timed("one prompt at a time, as upstream", one_by_one, model, prompts),
                *(
                    timed(f"ours, batch_size {size}", ours(size), model, prompts)
                    for size in (16, 32, 64)
                ),
            ]
            try:
                way = "transformers' continuous batching"
                results.append(timed(way, continuous, model, prompts))
            except (RuntimeError, ValueError, AttributeError, ImportError, AssertionError) as error:
                return results, f"{way} does not run here: {error}"
    return results, ""


def report(results: list[Timed], word: str, command: str) -> str:
    upstream, *others = results
    count = len(upstream.texts)
    lines = [
        "# Generation: batched beside one prompt at a time",
        "",
        f"`{command}` on {machine()}.",
        "",
        f"{count} prompts of the demo's held-out suite, greedy, float32 arithmetic on the base in "
        f"4 bits, at most {MAX_NEW_TOKENS} new tokens. Texts are compared with those of the "
        "upstream way.",
        "",
        "| way | seconds | speed-up | different texts |",
        "| --- | ---: | ---: | ---: |",
        f"| {upstream.way} | {upstream.seconds:.2f} | 1.0 × | |",
    ]
    for timing in others:
        gain = upstream.seconds / timing.seconds
        different = differing(timing.texts, upstream.texts)
        row = f"| {timing.way} | {timing.seconds:.2f} | {gain:.1f} × | {different} of {count} |"
        lines.append(row)
    return "\n".join([*lines, *(["", word] if word else [])]) + "\n"


def differing(texts: Texts, reference: Texts) -> int:
    """Texts of the reference that are missing or otherwise."""
    return sum(texts.get(problem) != text for problem, text in reference.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path("results/bench/generation.md"))
    args = parser.parse_args()
    results, word = measure(args.prompts)
    command = f"python -m benchmarks.generation --prompts {args.prompts}"
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(report(results, word, command))
    print(args.out.read_text())
    upstream, own = results[0], [timing for timing in results if timing.way.startswith("ours")]
    if any(differing(timing.texts, upstream.texts) for timing in own):
        raise SystemExit("texts differ from those of one prompt at a time")
    if upstream.seconds < WANTED * min(timing.seconds for timing in own):
        raise SystemExit(f"less than {WANTED} × as fast as one prompt at a time")


if __name__ == "__main__":
    main()
