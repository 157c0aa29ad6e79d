"""Whether a run could see an adapter, told before it is made."""

import shutil

import pytest
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from evaluator.cli import app
from evaluator.config.run_config import load_config
from evaluator.effect import measure_effect, texts_changed
from evaluator.errors import ConfigError, ModelError, UninformativeError
from evaluator.generation.prepare import prepare
from evaluator.store.records import GenerationRecord, read
from tests.evaluator.conftest import write_artifact
from tests.evaluator.whole_runs import make, two_arms


@pytest.fixture
def config(config_of, chat_base, tmp_path):
    """``config(size, **changes)``: a run with an adapter whose vector is at most so large."""

    def write(size, **changes):
        artifact = write_artifact(tmp_path, size, "tiny/chat-base", 14)
        return config_of(arms=two_arms(chat_base, artifact, load="nf4"), **changes)

    return write


@pytest.fixture
def effect_of(config):
    """``effect_of(size, **decoding)`` of such an adapter."""

    def measure(size, **decoding):
        path = config(size, decoding={"max_new_tokens": 48, "temperature": 0.0, **decoding})
        return measure_effect(prepare(load_config(path)), lambda *_: None), path

    return measure


@pytest.mark.parametrize(
    "decoding",
    [{"temperature": 0.0}, {"temperature": 2.0, "top_p": 0.9, "repetition_penalty": 1.2}],
    ids=["greedy", "sampled by all rules"],
)
def test_no_more_texts_change_than_was_said(effect_of, decoding):
    found, path = effect_of(0.02, **decoding)
    out, _ = make(path)
    texts = read(out / "generations.jsonl", GenerationRecord.from_row)
    pairs = [(texts["base", p, s], one) for (arm, p, s), one in texts.items() if arm == "restored"]
    changed = sum(base.text != own.text for base, own in pairs) / len(pairs)
    assert 0 < found.rate < 0.5 and found.longest == 48
    assert changed <= texts_changed(found.rate, 48) + 0.2  # of six texts


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_choices_change_in_proportion_to_the_adapter(effect_of, temperature):
    none, small, large = (effect_of(s, temperature=temperature)[0] for s in (0.0, 1e-4, 1e-3))
    assert none.kl == none.changed == none.rate == none.seen == 0 and none.tokens > 50
    assert not none.informative and "Uninformative" in none.sentences[-1]
    assert large.rate / small.rate == pytest.approx(10, rel=0.3)
    assert large.kl / small.kl == pytest.approx(100, rel=0.3)


def test_arms_of_other_vocabularies_are_not_compared(
    config_of, chat_base, chat_artifact, tmp_path, monkeypatch
):
    """A run that leaves the token level out for that reason goes on all the same."""
    wide = shutil.copytree(chat_base, tmp_path / "wide")
    model = AutoModelForCausalLM.from_pretrained(wide)
    model.resize_token_embeddings(272)
    model.save_pretrained(wide)
    nf4 = {"model": str(chat_base), "load": "nf4"}
    arms = [
        {"name": "base", "kind": "base", "model": str(wide), "load": "nf4"},
        {"name": "restored", "kind": "restored", "artifact": str(chat_artifact), **nf4},
    ]
    path = config_of(arms=arms, decoding={"max_new_tokens": 8}, token_level={"enabled": False})
    monkeypatch.setattr("evaluator.effect.MOST_TOKENS", 0)
    with pytest.raises(ConfigError, match="base and restored have vocab_size 272 and 264"):
        make(path, require_informative=True)
    _, results = make(path)
    assert [arm.facts.name for arm in results.summary.arms] == ["base", "restored"]


def test_a_run_says_first_that_its_pass_rates_will_show_nothing(
    config, tmp_path, caplog, monkeypatch
):
    path = config(1e-6, decoding={"max_new_tokens": 8}, token_level={"enabled": False})
    with pytest.raises(UninformativeError, match=r"out: On \d+ tokens .* Uninformative"):
        make(path, require_informative=True)
    assert not (tmp_path / "out" / "generations.jsonl").exists()
    assert list((tmp_path / "out" / "factors").iterdir())  # the run itself wants them
    command = ["run", str(path), "--require-informative"]
    assert CliRunner().invoke(app, command).exit_code == 1
    make(path)  # a run that costs no more than looking ahead does not look
    monkeypatch.setattr("evaluator.effect.PROMPTS", 2)
    monkeypatch.setattr("evaluator.effect.MOST_TOKENS", 2)
    make(path)
    assert "Uninformative" not in caplog.text  # it was begun
    make(path, overwrite=True)
    assert "Uninformative" in caplog.text
    caplog.clear()
    (tmp_path / "out" / "generations.jsonl").write_bytes(b"")  # a bench that found nothing to take
    make(path)
    assert "Uninformative" in caplog.text


def test_a_run_goes_on_where_looking_ahead_has_no_room(quick_config, tmp_path, monkeypatch, caplog):
    """In float32, which the run itself may not need."""

    def full(*_):
        raise ModelError("arm restored: cuda has no room")

    path = quick_config(tmp_path / "out", token_level={"enabled": False})
    monkeypatch.setattr("evaluator.effect.MOST_TOKENS", 0)
    monkeypatch.setattr("evaluator.run.measure_effect", full)
    with pytest.raises(ModelError, match="no room"):
        make(path, require_informative=True)
    _, results = make(path)
    assert len(results.summary.arms) == 2
    assert "could show was not measured: arm restored: cuda has no room" in caplog.text
