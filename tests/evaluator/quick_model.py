"""A chat model that writes a whole C++ program within a dozen tokens, made without training.

Runs that are killed and started again dozens of times need completions that cost little and
programs that are worth judging. So pieces of a program are single tokens, and the output layer
makes each piece call for the next; the layers in between are random and small, which leaves the
choice among several next pieces to the prompt, the weights and the noise.
"""

import torch
from transformers import Qwen2ForCausalLM

from tests.evaluator.conftest import small_config

HEAD = ("#include<cstdio>", "\nint main(){", "int a;", 'scanf("%d",', "&a);", 'printf("%d",', "a")
SIGNS, NUMBERS, TAIL = ("+", "-"), tuple("0123"), (");", "}")


def write_quick_base(directory, tokenizer):
    """A bf16 Qwen2 checkpoint; ``tokenizer`` gets the pieces of programs as tokens."""
    pieces = [piece for piece in (*HEAD, *TAIL) if len(piece) > 1]
    tokenizer.add_tokens(pieces)
    changes = {"num_hidden_layers": 1, "vocab_size": 288, "tie_word_embeddings": False}
    config = small_config(tokenizer, **changes)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = Qwen2ForCausalLM(config)
        embeddings = torch.linalg.qr(torch.randn(config.hidden_size, config.hidden_size))[0]
        head = torch.zeros(config.vocab_size, config.hidden_size)
        chain = [("<|assistant|>",), *((piece,) for piece in HEAD), SIGNS, NUMBERS]
        chain += [*((piece,) for piece in TAIL), ("<|end|>",)]
        names = [name for names in chain for name in names]
        ids = dict(zip(names, tokenizer.convert_tokens_to_ids(names), strict=True))
        for row, name in enumerate(names):
            model.model.embed_tokens.weight[ids[name]] = embeddings[row]
        for before, after in zip(chain, chain[1:], strict=False):
            for name in after:
                head[ids[name]] = 2 * sum(embeddings[names.index(b)] for b in before)
        model.lm_head.weight.copy_(head + 0.02 * torch.randn_like(head))
    model.to(torch.bfloat16).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
