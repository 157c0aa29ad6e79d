"""A LoRA adapter that PEFT made: merged, then compared by a whole run."""

from exporter import ExportRequest, export
from tests.evaluator.whole_runs import make, merged, two_arms
from tests.lora_adapters import PATTERNS, save_lora


def test_a_run_compares_merges_of_a_lora_adapter(chat_base, config_of, tmp_path):
    adapter, _ = save_lora(tmp_path / "adapter", chat_base, size=0.005, **PATTERNS)
    merges = ("nf4", "nf4-embedded", "bf16")
    for name in merges:
        export(ExportRequest(base=chat_base, artifact=adapter, out=tmp_path / name, format=name))
    arms = [*two_arms(chat_base, adapter), *(merged(name, tmp_path / name) for name in merges)]
    _, results = make(config_of(arms=arms, decoding={"max_new_tokens": 14}))  # no programs to judge
    assert all(results.summary.comparison(name) for name in merges)
    level = results.summary.token_level
    kept = {name: level.arm(name).kept.retention for name in merges}
    assert kept["bf16"] > 0.99 > kept["nf4-embedded"]  # PEFT trains on the 16-bit base
