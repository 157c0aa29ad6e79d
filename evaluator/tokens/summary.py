"""From token records and texts to numbers by arm. Needs no model.

The floor is the largest mean KL of the reference from itself by other arithmetic
(:mod:`tinylora.models.token_divergence`). The interval of the retention takes texts as units, as
tokens of one text are not independent: it is 1 − R, R = Σaᵢ/Σbᵢ of the sums of KL over a text for
arm and base, and by the jackknife (Miller: "The jackknife: a review", Biometrika 61, 1974), with
Student's t of n − 1 degrees,

    var R = (n − 1)/n Σ(Rᵢ − R̄)²        Rᵢ: without text i
"""

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os.path import commonprefix

import numpy as np
from scipy.stats import t as student

from evaluator.statistics.score_interval import Floats, Interval
from evaluator.store.records import GenerationRecord, Key, TokenRecord, repeats
from evaluator.store.run_directory import RunFacts
from tinylora.models.token_divergence import Kept, KLSummary, kept, summarize_kl, visible

_LEVEL = 0.95


@dataclass(frozen=True)
class ArmTokens:
    """An arm's predictions beside the reference's, on the same tokens.

    Attributes:
        repeat: Whether it is the reference once more, in another way or as an A/A arm.
        kl: KL(reference‖arm), nats.
        kept: Its retention, 1 − mean KL(reference‖arm)/mean KL(reference‖base), and what
            arithmetic leaves of that; None for repeats, without a base, or where the adapter's
            effect or its loss cannot be seen above the floor.
        interval95: Of the retention, by texts; None where no loss is seen, or for one text.
        shift: How its logits move from the base's, beside the reference's; None where the effect
            cannot be seen, and for the control and repeats.
    """

    arm: str
    repeat: bool
    kl: KLSummary
    top1_agreement: float
    kept: Kept | None
    interval95: Interval | None
    shift: "Shift | None" = None


@dataclass(frozen=True)
class Shift:
    """How alike arm and reference move the base's logits.

    Cosine of the angle between the two shifts, over positions; the share of logits that move the
    same way, of which chance alone gives a half.
    """

    cosine: float
    median_cosine: float
    same_sign: float


@dataclass(frozen=True)
class TextDivergence:
    """An arm's completions beside the reference's.

    Of ``identical`` ones the share is given; ``first_difference`` is the median position, in
    characters, at which the others part. Texts that were drawn with other noise part anyway.
    """

    arm: str
    texts: int
    identical: float
    first_difference: float | None
    same_noise: bool


@dataclass(frozen=True)
class TokenLevel:
    """The token level of a run.

    Attributes:
        floor: Largest mean KL of the reference from itself by other arithmetic; None where
            nothing was compared.
        effect: Mean KL(reference‖base); None without a base arm.
        computed: Mean KL of the reference from what the run's own arithmetic makes of it; None
            where that was not compared.
        dtype: That arithmetic.
        arms: The reference's repeats, then the other arms that were compared, in the run's order.
        unfinished: Arms that give logits, and of which records are missing.
        divergences: Of the written texts, all arms but the reference.
    """

    reference: str
    control: str | None
    texts: int
    floor: float | None
    effect: float | None
    computed: float | None
    dtype: str
    arms: tuple[ArmTokens, ...]
    unfinished: tuple[str, ...]
    divergences: tuple[TextDivergence, ...]

    @property
    def visible(self) -> bool:
        """Whether the adapter changes predictions by more than other arithmetic does."""
        if self.effect is None or self.floor is None:
            return False
        return visible(self.effect, self.floor)

    @property
    def drowned(self) -> bool:
        """Whether the run's own arithmetic changes predictions by more than the adapter."""
        if self.effect is None or self.computed is None:
            return False
        return self.computed >= self.effect

    def arm(self, name: str) -> ArmTokens | None:
        """The arm's predictions, where they were compared."""
        return next((arm for arm in self.arms if arm.arm == name), None)

    def divergence(self, name: str) -> TextDivergence | None:
        """The arm's texts, where they were compared."""
        return next((one for one in self.divergences if one.arm == name), None)


def summarize_tokens(
    facts: RunFacts,
    records: Mapping[Key, TokenRecord],
    generations: Mapping[Key, GenerationRecord],
) -> TokenLevel | None:
    """Compute the token level; None without a restored arm."""
    reference, control = facts.reference, facts.control
    if reference is None:
        return None
    own_ways = repeats(reference)
    arms = [arm.name for arm in facts.arms if arm.name != reference]
    by_arm: dict[str, dict[Key, TokenRecord]] = {name: {} for name in (*own_ways, *arms)}
    for record in records.values():
        if record.arm in by_arm:
            text = (record.tokens_sha256, record.problem, record.sample)
            by_arm[record.arm][text] = record
    wanted = by_arm[own_ways.again].keys()
    done = {name: own for name, own in by_arm.items() if wanted and own.keys() == wanted}
    means = {name: _all_kl(own).mean for name, own in done.items()}
    nulls = [means[name] for name in (own_ways.again, own_ways.folded) if name in means]
    floor = max(nulls) if len(nulls) == 2 else None
    base = done.get(control) if control else None
    same = {*own_ways, *facts.same_model(reference)}
    # the run's own arithmetic comes before all arms, or is not read
    silent = {own_ways.computed, *(arm.name for arm in facts.arms if not arm.logits)}
    return TokenLevel(
        reference=reference,
        control=control,
        texts=len(wanted),
        floor=floor,
        effect=means.get(control or ""),
        computed=means.get(own_ways.computed),
        dtype=str(facts.config.get("compute_dtype", "")),
        arms=tuple(_arm(name, own, base, floor, name in same) for name, own in done.items()),
        unfinished=tuple(name for name in by_arm if wanted and name not in {*done, *silent}),
        divergences=tuple(_divergences(facts, reference, generations)),
    )


def retention_interval(own: Floats, base: Floats) -> Interval | None:
    """95 % interval of 1 − Σown/Σbase; None for a single text, or one that alone has an effect.

    Both are sums of KL by text, float64 [n]; those of the base are not all 0.
    """
    count, others = len(own), base.sum() - base
    if count < 2 or bool((others <= 0).any()):
        return None
    ratios = (own.sum() - own) / others
    spread = (count - 1) / count * ((ratios - ratios.mean()) ** 2).sum()
    half = float(student.ppf((1 + _LEVEL) / 2, count - 1) * np.sqrt(spread))
    kept = float(1 - own.sum() / base.sum())
    return Interval(kept - half, min(kept + half, 1.0), _LEVEL)  # no KL is below 0


def _arm(
    name: str,
    own: Mapping[Key, TokenRecord],
    base: Mapping[Key, TokenRecord] | None,
    floor: float | None,
    repeat: bool,
) -> ArmTokens:
    kl = _all_kl(own)
    found = interval = None
    if base is not None and floor is not None and not repeat:
        found = kept(kl.mean, _all_kl(base).mean, floor)
    if base is not None and found is not None and found.loss_seen:
        sums = np.array([[sum(own[text].kl), sum(base[text].kl)] for text in own])
        interval = retention_interval(sums[:, 0], sums[:, 1])
    shift = None
    if found is not None and all(record.shift_cosine for record in own.values()):
        cosines = np.array([one for record in own.values() for one in record.shift_cosine])
        counts = [len(record.kl) for record in own.values()]
        signs = np.average([record.shift_signs for record in own.values()], weights=counts)
        shift = Shift(float(cosines.mean()), float(np.median(cosines)), float(signs))
    return ArmTokens(
        arm=name,
        repeat=repeat,
        kl=kl,
        top1_agreement=sum(record.same for record in own.values()) / kl.tokens,
        kept=found,
        interval95=interval,
        shift=shift,
    )


def _divergences(
    facts: RunFacts, reference: str, generations: Mapping[Key, GenerationRecord]
) -> Iterator[TextDivergence]:
    for arm in facts.arms:
        pairs = [
            [other.text, record.text]
            for (name, problem, sample), record in generations.items()
            if name == arm.name != reference
            and (other := generations.get((reference, problem, sample))) is not None
        ]
        parted = [len(commonprefix(pair)) for pair in pairs if pair[0] != pair[1]]
        if pairs:
            yield TextDivergence(
                arm=arm.name,
                texts=len(pairs),
                identical=1 - len(parted) / len(pairs),
                first_difference=float(statistics.median(parted)) if parted else None,
                same_noise=facts.same_noise(arm.name, reference),
            )


def _all_kl(records: Mapping[Key, TokenRecord]) -> KLSummary:
    return summarize_kl([kl for record in records.values() for kl in record.kl])
