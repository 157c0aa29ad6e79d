"""How much an adapter changes at all, before a run is made: ``tinylora-eval effect``.

Base and restored model read some prompts with short completions of the base. With q the share of
tokens at which the run's decoding chooses otherwise, a completion of L tokens changes with chance
1 − exp(−q L), and no pass rate can differ by more than that. Sampled with common noise q is at most
2 TV/(1 + TV), where TV = ½ Σ|p − q| is the total variation distance of the two distributions (as
top_p, top_k and the repetition penalty leave them), averaged over tokens. Under greedy decoding a
choice changes where the lead of the first token is smaller than what the adapter moves it by:
q ≤ f E|shift| with f the density of leads near 0, taken from the closest tenth of tokens, and at
least what is counted.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from evaluator.config.run_config import ArmConfig, RunConfig
from evaluator.errors import ConfigError
from evaluator.generation.backend import text_written
from evaluator.generation.backends import backend_of
from evaluator.generation.choice import scores
from evaluator.generation.prepare import Prepared
from evaluator.generation.prompts import Row
from evaluator.generation.stage import open_model
from evaluator.progress import Progress
from evaluator.statistics.families import Families
from evaluator.statistics.power import POWER, verdict_chances
from evaluator.store.looks import planned_looks
from evaluator.store.run_directory import RunDirectory
from evaluator.tokens.texts import evenly
from tinylora.files.scratch import scratch_directory
from tinylora.models.predictions import KeptPredictions
from tinylora.models.token_divergence import kl_divergence

PROMPTS, MOST_TOKENS = 16, 128
_SHOWN_LENGTH = 500
_WORTH = 8  # times as much as is written here, a run may write
_NEAR = 0.1  # of the leads: how many give their density at 0


@dataclass(frozen=True)
class Effect:
    """What the adapter changes on some tokens, and what a run could see of it at the most.

    Attributes:
        tokens: Number of compared predictions.
        kl: Mean KL(restored‖base), nats.
        changed: Share of tokens at which the most likely one is another.
        rate: Share of tokens at which the run's decoding chooses otherwise, estimated from above.
        longest: Tokens of the run's longest completion.
        units: Independent problems of the run, times samples.
        seen: Chance that a run calls base and restored model ``differ``, if every completion that
            changes loses its pass.
    """

    tokens: int
    kl: float
    changed: float
    rate: float
    longest: int
    units: float
    seen: float

    @property
    def informative(self) -> bool:
        """Whether the run may see the adapter's effect in pass rates at all."""
        return self.seen >= POWER

    @property
    def sentences(self) -> tuple[str, ...]:
        """What follows, in plain words."""
        shown, longest = (
            100 * texts_changed(self.rate, length) for length in (_SHOWN_LENGTH, self.longest)
        )
        found = (
            f"On {self.tokens} tokens the adapter changes predictions by a mean KL of "
            f"{self.kl:.3g} nats, and the most likely token at {100 * self.changed:.3g} %.",
            f"At most {shown:.3g} % of completions of {_SHOWN_LENGTH} tokens would change, "
            f"{longest:.3g} % of this run's longest ({self.longest} tokens).",
        )
        if self.informative:
            return (*found, "A comparison of pass rates may see that; a match can mean something.")
        return (
            *found,
            f"Uninformative: if every one of them lost its pass, {self.units:.0f} independent "
            f"samples would show a difference in {100 * self.seen:.2g} % of runs. A checkpoint "
            "that lost everything would pass for equal; the token level and verify --prompts see "
            "it.",
        )


def worth_measuring(prepared: Prepared) -> bool:
    """Whether the effect can be measured for a small part of what the run may write."""
    decoding = prepared.config.decoding
    most = len(prepared.prompts) * decoding.samples * decoding.max_new_tokens
    return None not in _arms(prepared.config) and most > _WORTH * PROMPTS * MOST_TOKENS


def measure_effect(prepared: Prepared, progress: Progress) -> Effect:
    """Compare base and restored arm on a few tokens; ConfigError where it cannot be done."""
    config = prepared.config
    base, reference = _arms(config)
    if reference is None or base is None:
        raise ConfigError(
            "the effect of an adapter needs an arm of kind base and one restored, with models here"
        )
    sizes = [prepared.checkpoints[arm.name].vocabulary for arm in (base, reference)]
    if None not in sizes and sizes[0] != sizes[1]:
        raise ConfigError(
            f"arms {base.name} and {reference.name} have vocab_size {sizes[0]} and {sizes[1]}: "
            "their predictions cannot be compared. Give both the same model"
        )
    with scratch_directory("effect") as folder:
        directory, kept = RunDirectory(folder), KeptPredictions(folder)
        progress("effect", 0, 3)
        short = min(MOST_TOKENS, config.decoding.max_new_tokens)
        decoding = config.decoding.model_copy(update={"max_new_tokens": short})
        limited = replace(prepared, config=config.model_copy(update={"decoding": decoding}))
        rows = tuple(Row(prompt, 0) for prompt in evenly(prepared.prompts, PROMPTS))
        with open_model(base, limited, directory) as model:
            written = [one.tokens for one in model.complete(rows)]
        pairs = zip(rows, written, strict=True)
        texts = [text_written(row.prompt.token_ids, tokens) for row, tokens in pairs]
        progress("effect", 1, 3)
        with open_model(reference, prepared, directory, as_stored=True) as model:
            for number, text in enumerate(texts):
                kept.keep(str(number), model.predict([text])[0])
        progress("effect", 2, 3)
        parts = []
        with open_model(base, prepared, directory, as_stored=True) as model:
            for number, text in enumerate(texts):
                other = model.predict([text])[0].logits
                restored = kept.load(str(number), other.device)
                prompt, own = rows[number].prompt.token_ids, written[number]
                behind = [(prompt, own[:place]) for place in range(len(own))]
                both = (
                    scores(arm.name, config.decoding, None, behind, logits)
                    for arm, logits in ((reference, restored), (base, other))
                )
                kl = kl_divergence(restored, other)
                parts.append(torch.cat((kl.unsqueeze(0), _changes(*both))))
        progress("effect", 3, 3)
    return _effect(prepared, torch.cat(parts, dim=1))


def _arms(config: RunConfig) -> tuple[ArmConfig | None, ArmConfig | None]:
    """The first base and restored arm whose model is here."""
    arms = [arm for arm in config.arms if backend_of(arm, config).gives_logits]
    base, restored = (next((a for a in arms if a.kind == k), None) for k in ("base", "restored"))
    return base, restored


def _changes(restored: Tensor, base: Tensor) -> Tensor:
    """Of scores [n, V] float64 [4, n]: whether the first choice changes, TV, lead, shift."""
    first = (restored.argmax(dim=1) != base.argmax(dim=1)).double()
    p, q = (x.softmax(dim=1) for x in (restored, base))
    two = base.topk(2, dim=1).indices  # the same tokens in both
    lead, moved = (x.gather(1, two).diff(dim=1).squeeze(1) for x in (base, restored))
    variation = (p - q).abs().sum(dim=1) / 2
    return torch.stack((first, variation, -lead, moved - lead))


def _effect(prepared: Prepared, changes: Tensor) -> Effect:
    config = prepared.config
    kl, changed, variation, *_ = changes.mean(dim=1).tolist()
    rate = 2 * variation / (1 + variation)
    if config.decoding.temperature == 0:
        lead, shift = changes[3], changes[4].abs().mean()
        rate = max(changed, float(_NEAR / lead.quantile(_NEAR) * shift))
    longest = config.decoding.max_new_tokens
    families = Families.named([problem.family for problem in prepared.suite.problems])
    units = families.effective * config.decoding.samples
    most = texts_changed(rate, longest)
    look = planned_looks(prepared.facts)[-1].look
    chances = verdict_chances(np.floor(units), most, most, config.equivalence.margin, look)
    return Effect(
        tokens=changes.shape[1],
        kl=kl,
        changed=changed,
        rate=rate,
        longest=longest,
        units=units,
        seen=float(chances.differ[0]),
    )


def texts_changed(rate: float, length: int) -> float:
    """Share of completions of so many tokens that change anywhere."""
    return -math.expm1(-rate * length)
