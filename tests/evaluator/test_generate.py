import dataclasses

import pytest
import torch
from scipy.stats import chisquare
from transformers import AutoModelForCausalLM

from evaluator.config.run_config import DecodingConfig
from evaluator.errors import GenerationError, ModelError
from evaluator.generation.generate import Generator, end_and_pad, plan_batches, share_of
from evaluator.generation.noise import gumbel_noise, noise_key, noise_keys
from evaluator.generation.prompts import Prompt, build_prompts, check_prompts_fit, prompts_digest
from evaluator.suites.problem import Problem, TestCase
from tinylora.models.chat import load_tokenizer

TESTS = (TestCase("1", "", ""),)
PROBLEMS = [Problem(f"P{i}", f"Print a + {i % 6}." + "!" * (i % 9), TESTS) for i in range(40)]


@pytest.fixture(scope="module")
def tokenizer(chat_base):
    return load_tokenizer(chat_base)


@pytest.fixture(scope="module")
def model(chat_base):
    return AutoModelForCausalLM.from_pretrained(chat_base, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def prompts(tokenizer):
    return build_prompts(PROBLEMS, tokenizer, "base")


def complete(model, tokenizer, prompts, **decoding):
    settings = DecodingConfig(**{"temperature": 1.0, "max_new_tokens": 24, **decoding})
    ends, pad = end_and_pad(model, tokenizer, "base")
    generator = Generator("base", model, tokenizer, settings, settings.seed, ends, pad)
    made = generator.complete(plan_batches(prompts, settings))
    return {record.key: record for batch in made for record in batch}


def step_by_step(model, tokenizer, prompt, seed, sample, temperature, limit, penalty=1.0):
    """One completion without generate(), padding, batches or a cache."""
    ids, written = list(prompt.token_ids), []
    key = noise_keys([noise_key(seed, prompt.problem, sample)], torch.device("cpu"))
    with torch.inference_mode():
        while len(written) < limit:
            scores = model(input_ids=torch.tensor([ids + written])).logits[0, -1].double()
            for token in {*ids, *written}:
                scores[token] *= penalty if scores[token] < 0 else 1 / penalty
            noise = gumbel_noise(key, len(written), len(scores))[0]
            token = int((scores / temperature + noise).argmax())
            if token == tokenizer.eos_token_id:
                return tokenizer.decode(written), len(written) + 1, "stop"
            written.append(token)
    return tokenizer.decode(written), limit, "length"


def test_batched_sampling_equals_one_row_step_by_step(model, tokenizer, prompts):
    some = prompts[:9]
    settings = {"max_new_tokens": 72, "samples": 2, "batch_size": 7, "seed": 4}
    made = complete(model, tokenizer, some, temperature=2.0, **settings)
    for prompt in some[::2]:
        expected = step_by_step(model, tokenizer, prompt, 4, 1, 2.0, 72)
        record = made["base", prompt.problem, 1]
        assert (record.text, record.token_count, record.finish_reason) == expected
    assert {record.finish_reason for record in made.values()} == {"stop", "length"}


def test_a_repetition_penalty_counts_prompt_and_completion_and_no_padding(
    model, tokenizer, prompts
):
    """Whatever the padding is: here a token that the model begins with."""
    settings = {"temperature": 2.0, "max_new_tokens": 40, "seed": 4, "repetition_penalty": 1.5}
    decoding = DecodingConfig(**settings, batch_size=9)
    pad = tokenizer("#")["input_ids"][0]
    generator = Generator("base", model, tokenizer, decoding, 4, (tokenizer.eos_token_id,), pad)
    made = generator.complete(plan_batches(prompts[:9], decoding))
    texts = {record.problem: record.text for batch in made for record in batch}
    for prompt in prompts[:9:2]:
        expected, *_ = step_by_step(model, tokenizer, prompt, 4, 0, 2.0, 40, penalty=1.5)
        assert texts[prompt.problem] == expected
    without = complete(model, tokenizer, prompts[:9], temperature=2.0, max_new_tokens=40, seed=4)
    assert any(texts[record.problem] != record.text for record in without.values())


def test_batch_size_and_order_leave_texts_as_they_are(model, tokenizer, prompts):
    alone = complete(model, tokenizer, prompts[:20], batch_size=1, temperature=2.0)
    together = complete(model, tokenizer, prompts[19::-1], batch_size=16, temperature=2.0)
    assert alone.keys() == together.keys()
    equal = sum(alone[key].identity == together[key].identity for key in alone)
    assert equal >= 0.99 * len(alone)


def test_samples_and_seeds_differ(model, tokenizer, prompts):
    made = complete(model, tokenizer, prompts[:1], samples=8, temperature=3.0)
    assert len({record.text for record in made.values()}) > 2
    other = complete(model, tokenizer, prompts[:1], samples=8, temperature=3.0, seed=1)
    assert [r.text for r in made.values()] != [r.text for r in other.values()]


def test_greedy_is_the_argmax(model, tokenizer, prompts):
    made = complete(model, tokenizer, prompts[:2], temperature=0.0)
    ids = torch.tensor([prompts[0].token_ids])
    out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24)
    expected = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=False)
    assert made["base", "P0", 0].text == expected.split("<|end|>")[0]


def test_the_checkpoints_own_generation_config_adds_nothing(model, tokenizer, prompts):
    plain = complete(model, tokenizer, prompts[:3])
    model.generation_config.repetition_penalty = 5.0
    model.generation_config.top_k = 1
    model.generation_config.do_sample = True
    changed = complete(model, tokenizer, prompts[:3])
    assert [r.identity for r in plain.values()] == [r.identity for r in changed.values()]


def test_first_tokens_follow_the_softmax(model, tokenizer, prompts):
    """4000 samples of one token against the model's own probabilities."""
    settings = {"samples": 4000, "batch_size": 500, "max_new_tokens": 1, "temperature": 2.0}
    made = complete(model, tokenizer, prompts[:1], **settings)
    with torch.inference_mode():
        scores = model(input_ids=torch.tensor([prompts[0].token_ids])).logits[0, -1].double()
    probabilities = torch.softmax(scores / 2.0, dim=-1)
    texts = [tokenizer.decode([token]) for token in range(len(scores))]
    token_of = {text: token for token, text in enumerate(texts) if texts.count(text) == 1}
    counts = torch.zeros(len(scores))
    for record in made.values():
        ended = record.finish_reason == "stop"
        token = tokenizer.eos_token_id if ended else token_of.get(record.text)
        if token is not None:
            counts[token] += 1
    likely = (probabilities * 4000 >= 10) & (counts > 0)
    assert likely.sum() >= 3
    observed = [*counts[likely].tolist(), 4000 - float(counts[likely].sum())]
    expected = [*(probabilities[likely] * 4000).tolist()]
    assert chisquare(observed, [*expected, 4000 - sum(expected)]).pvalue > 0.001


def test_top_p_and_top_k_rule_tokens_out(model, tokenizer, prompts):
    greedy = complete(model, tokenizer, prompts[:4], temperature=0.0)
    for settings in ({"top_k": 1}, {"top_p": 1e-6}):
        made = complete(model, tokenizer, prompts[:4], **settings)
        assert [r.text for r in made.values()] == [r.text for r in greedy.values()]


def test_logits_that_are_not_numbers(chat_base, tokenizer, prompts):
    broken = AutoModelForCausalLM.from_pretrained(chat_base, dtype=torch.float32)
    broken.model.norm.weight.data.fill_(float("nan"))
    with pytest.raises(GenerationError, match="arm base: the model's logits are not numbers"):
        complete(broken, tokenizer, prompts[:1])


def test_shares_of_processes_make_up_the_plan(prompts):
    plan = plan_batches(prompts, DecodingConfig(batch_size=3, samples=2, temperature=1.0))
    rows = [(row.prompt.problem, row.sample) for batch in plan for row in batch]
    assert sorted(rows) == sorted((p.id, s) for p in PROBLEMS for s in (0, 1))
    lengths = [len(row.prompt.token_ids) for batch in plan for row in batch]
    assert lengths == sorted(lengths, reverse=True)
    for world in (1, 2, 3, 50):
        shares = [share_of(plan, rank, world) for rank in range(world)]
        assert sorted(map(id, plan)) == sorted(id(batch) for share in shares for batch in share)
        sizes = [len(share) for share in shares]
        assert max(sizes) - min(sizes) <= 1


def test_prompts_use_the_chat_template_and_ready_made_prompts(tokenizer):
    ready = dataclasses.replace(PROBLEMS[0], prompt="ready made")
    first, second = build_prompts([PROBLEMS[1], ready], tokenizer, "base")
    assert first.text == "<|user|>Print a + 1.!<|assistant|>"
    assert second.text == "<|user|>ready made<|assistant|>"
    assert first.token_ids[0] == tokenizer.convert_tokens_to_ids("<|user|>")
    assert tokenizer.decode(first.token_ids) == first.text
    assert prompts_digest([first]) != prompts_digest([second])


def test_prompts_that_cannot_be(tokenizer, chat_base):
    bare = load_tokenizer(chat_base)
    bare.chat_template = None
    with pytest.raises(ModelError, match="no chat template"):
        build_prompts(PROBLEMS, bare, "arm base")
    prompts = [Prompt("short", "", (1,) * 10), Prompt("long", "", (1,) * 60)]
    check_prompts_fit(prompts, 40, 100, "arm base")
    check_prompts_fit(prompts, 400, None, "arm base")
    with pytest.raises(GenerationError, match="1 of 2 prompts do not fit its 100 positions.*long"):
        check_prompts_fit(prompts, 41, 100, "arm base")
