"""What the transformers backend writes, beside the same done one token at a time."""

import pytest
import torch
from transformers import AutoModelForCausalLM, OPTConfig, OPTForCausalLM

from evaluator.config.run_config import DecodingConfig
from evaluator.errors import ModelError
from evaluator.generation.noise import gumbel_noise, noise_key
from evaluator.generation.prompts import build_prompts
from evaluator.suites.problem import Problem, TestCase
from tests.evaluator.loaded_models import completions
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
    return build_prompts(PROBLEMS, tokenizer, "base")[0]


def complete(model, tokenizer, prompts, **decoding):
    settings = DecodingConfig(**{"temperature": 1.0, "max_new_tokens": 24, **decoding})
    return completions(model, tokenizer, prompts, settings)


def step_by_step(model, tokenizer, prompt, seed, sample, temperature, limit, penalty=1.0):
    """One completion without generate(), padding, batches or a cache."""
    ids, written = list(prompt.token_ids), []
    key = torch.tensor([noise_key(seed, prompt.problem, sample)])
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
        assert made[prompt.problem, 1][:3] == expected
    assert {record.finish_reason for record in made.values()} == {"stop", "length"}


def test_a_repetition_penalty_counts_prompt_and_completion_and_no_padding(
    model, tokenizer, prompts
):
    """Whatever the padding is: here a token that the model begins with."""
    settings = {"temperature": 2.0, "max_new_tokens": 40, "seed": 4, "repetition_penalty": 1.5}
    decoding = DecodingConfig(**settings, batch_size=9)
    pad = tokenizer("#")["input_ids"][0]
    made = completions(model, tokenizer, prompts[:9], decoding, pad_id=pad)
    for prompt in prompts[:9:2]:
        expected, *_ = step_by_step(model, tokenizer, prompt, 4, 0, 2.0, 40, penalty=1.5)
        assert made[prompt.problem, 0].text == expected
    without = complete(model, tokenizer, prompts[:9], temperature=2.0, max_new_tokens=40, seed=4)
    assert made != without


@pytest.mark.parametrize(
    "rules",
    [{"temperature": 0.0}, {"top_k": 9, "top_p": 0.9}, {"samples": 2, "repetition_penalty": 1.3}],
    ids=["greedy", "top k and p", "penalty"],
)
def test_a_draft_changes_no_token_of_a_completion(model, tokenizer, prompts, rules):
    """Drafts of every kind: its own text, one other token, of other noise, empty, too short."""
    settings = {"temperature": 1.0, "max_new_tokens": 30, "batch_size": 4, "seed": 4, **rules}
    decoding = DecodingConfig(**settings)
    expected = completions(model, tokenizer, prompts[:10], decoding)
    drafts = {}
    for number, (key, completion) in enumerate(expected.items()):
        own = completion.tokens
        at = len(own) // 2
        other = (*own[:at], (own[at] + 1) % 260, *own[at + 1 :])
        drafts[key] = [own, other, other[at:], (), own[: at + 1]][number % 5]
    made = completions(model, tokenizer, prompts[:10], decoding, drafts=drafts)
    assert [one[:4] for one in made.values()] == [one[:4] for one in expected.values()]
    for number, completion in enumerate(made.values()):
        length = len(completion.tokens)
        assert length > 10
        taken = [length, length - 1, None, 0, length // 2 + 1][number % 5]
        assert taken in (None, completion.taken_over)


def test_a_draft_may_have_tokens_that_the_model_does_not_know(model, tokenizer, prompts):
    """As the reference's may, where its vocabulary is larger."""
    decoding = DecodingConfig(temperature=1.0, max_new_tokens=30, seed=4)
    expected = completions(model, tokenizer, prompts[:4], decoding)
    drafts = {key: (*one.tokens[:9], 264, *one.tokens[10:]) for key, one in expected.items()}
    made = completions(model, tokenizer, prompts[:4], decoding, drafts=drafts)
    assert [one[:4] for one in made.values()] == [one[:4] for one in expected.values()]
    assert {one.taken_over for one in made.values()} == {9}


def test_rows_begun_by_drafts_stay_within_a_models_last_position(tokenizer, prompts):
    """OPT has a table of positions: behind its end there is nothing to look up."""
    some, limit = prompts[:4], 20
    end = max(len(prompt.token_ids) for prompt in some) + limit
    sizes = {"hidden_size": 16, "word_embed_proj_dim": 16, "ffn_dim": 16, "num_attention_heads": 2}
    sizes |= {"num_hidden_layers": 1, "vocab_size": 264, "max_position_embeddings": end}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = OPTForCausalLM(OPTConfig(**sizes)).eval()
    decoding = DecodingConfig(temperature=1.0, max_new_tokens=limit, seed=4)
    expected = completions(model, tokenizer, some, decoding)
    drafts = {
        key: one.tokens[: number * limit // 3] for number, (key, one) in enumerate(expected.items())
    }
    made = completions(model, tokenizer, some, decoding, drafts=drafts)
    assert [one[:4] for one in made.values()] == [one[:4] for one in expected.values()]


def test_greedy_is_the_argmax_and_what_rules_leave_of_one_token(model, tokenizer, prompts):
    greedy = complete(model, tokenizer, prompts[:4], temperature=0.0)
    ids = torch.tensor([prompts[0].token_ids])
    out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24)
    expected = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=False)
    assert greedy["P0", 0].text == expected.split("<|end|>")[0]
    for settings in ({"top_k": 1}, {"top_p": 1e-6}):
        made = complete(model, tokenizer, prompts[:4], **settings)
        assert [r.text for r in made.values()] == [r.text for r in greedy.values()]


def test_the_checkpoints_own_generation_config_adds_nothing(model, tokenizer, prompts):
    plain = complete(model, tokenizer, prompts[:3])
    model.generation_config.update(repetition_penalty=5.0, top_k=1, do_sample=True)
    assert complete(model, tokenizer, prompts[:3]) == plain


def test_logits_that_are_not_numbers(chat_base, tokenizer, prompts):
    broken = AutoModelForCausalLM.from_pretrained(chat_base, dtype=torch.float32)
    broken.model.norm.weight.data.fill_(float("nan"))
    with pytest.raises(ModelError, match="arm base: the model's logits are not numbers"):
        complete(broken, tokenizer, prompts[:1])
