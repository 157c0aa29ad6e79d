"""The demo's tokenizer: Qwen2's own class with a small byte-level BPE and a ChatML template.

transformers gives every checkpoint of type ``qwen2`` the pre-tokenizer of its ``Qwen2Tokenizer``,
whatever ``tokenizer.json`` says, so that one is used here. It cuts text into words. To keep prompts
and programs short all the same, the phrases and lines of code that save the most are added tokens,
which are matched before the text is cut; so are the numbers from 10 to 99, the usual parameters,
which a model of this size then copies from the statement in one piece.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence

from tokenizers import AddedToken, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, Qwen2Tokenizer

END, START, STOP = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
#: Candidates for added tokens: what lies between digits and line starts.
PHRASE = re.compile(r"\n[^\n\d]+|[^\n\d]+")


def train_tokenizer(texts: Sequence[str], words: int, phrases: int) -> Qwen2Tokenizer:
    """Trains a tokenizer of ``words`` BPE tokens and ``phrases`` added ones on ``texts``."""
    backend = Qwen2Tokenizer().backend_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=words,
        special_tokens=[END, START, STOP],
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    backend.train_from_iterator([*texts, *["user\n", "assistant\n"] * len(texts)], trainer)
    bpe = json.loads(backend.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=bpe["vocab"],
        merges=[tuple(pair) for pair in bpe["merges"]],
        eos_token=STOP,
        pad_token=END,
        extra_special_tokens=[START],
        model_max_length=1024,
    )
    tokenizer.chat_template = TEMPLATE
    chosen = worthwhile_phrases(tokenizer, texts, phrases)
    numbers = [str(number) for number in range(10, 100)]
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in (*numbers, *chosen)])
    return tokenizer


def worthwhile_phrases(tokenizer: Qwen2Tokenizer, texts: Sequence[str], count: int) -> list[str]:
    """The phrases that save the most tokens over ``texts``."""
    seen = Counter(phrase for text in texts for phrase in PHRASE.findall(text) if len(phrase) > 3)
    saved = {
        phrase: (len(tokenizer(phrase)["input_ids"]) - 1) * times for phrase, times in seen.items()
    }
    return sorted(saved, key=lambda phrase: (-saved[phrase], phrase))[:count]


def prompt_text(tokenizer: PreTrainedTokenizerBase, statement: str) -> str:
    """The prompt that the evaluator makes of a statement."""
    messages = [{"role": "user", "content": statement}]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
