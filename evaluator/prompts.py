"""The prompts of a run as any engine must be asked them: ``tinylora-eval prompts``."""

import json
from collections.abc import Iterator
from typing import Any

from evaluator.config.run_config import RunConfig
from evaluator.errors import ConfigError
from evaluator.generation.openai_form import PATHS, request_body, request_seed
from evaluator.generation.prepare import common_prompts, with_checkpoints
from evaluator.generation.prompts import check_all_ask
from evaluator.suites.suite import load_suite


def prompt_lines(config: RunConfig, model: str | None = None) -> Iterator[bytes]:
    """One line of JSON a completion, in the suite's order; for a ``model`` as OpenAI's batches are.

    No weights are loaded, and texts and endpoints of arms need not be there. ConfigError where a
    batch cannot say a prompt; else as ``prepare``.
    """
    suite = load_suite(config.suite).first(config.limit)
    check_all_ask(suite.problems, str(suite.path), config.prompt)
    config, checkpoints = with_checkpoints(config)
    prompts, _ = common_prompts(config, suite, checkpoints)
    decoding = config.decoding
    if model is not None and (silent := [p.problem for p in prompts if not p.messages]):
        raise ConfigError(
            f"prompt.system: the chat template adds a system message of its own to {silent[0]}, "
            "which no messages keep out; give one, or an empty one (system: '')"
        )
    for prompt in prompts:
        for sample in range(decoding.samples):
            seed = request_seed(decoding.seed, prompt.problem, sample)
            if model is None:
                yield _line(
                    problem=prompt.problem,
                    sample=sample,
                    seed=seed,
                    messages=[dict(message) for message in prompt.messages] or None,
                    text=prompt.text or None,
                    temperature=decoding.temperature,
                    top_p=decoding.top_p,
                    top_k=decoding.top_k,
                    repetition_penalty=decoding.penalty,
                    max_new_tokens=decoding.max_new_tokens,
                )
            else:
                yield _line(
                    custom_id=f"{prompt.problem}/{sample}",
                    method="POST",
                    url=f"/v1{PATHS['chat']}",
                    body=request_body(model, prompt, decoding, seed),
                )


def _line(**fields: Any) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode() + b"\n"
