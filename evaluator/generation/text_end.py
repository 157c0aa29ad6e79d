"""Where a text ends: at an end token, or with the answer; and what is recorded of it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase, StoppingCriteria, StoppingCriteriaList

from evaluator.errors import ModelError
from evaluator.generation.backend import Completion
from evaluator.generation.prompts import Row
from evaluator.judging.answer_end import end_of_answer
from evaluator.store.records import FinishReason


class TextEnd:
    """Finds the end of texts: ``end_ids``, or ``with_answer`` the fence behind the program."""

    def __init__(
        self,
        arm: str,
        tokenizer: PreTrainedTokenizerBase,
        configured: int | Sequence[int] | None,
        with_answer: bool,
    ) -> None:
        """``configured`` are end tokens of the model's files; ModelError where there is none."""
        ends = [configured] if configured is None or isinstance(configured, int) else configured
        self.end_ids = sorted({i for i in (*ends, tokenizer.eos_token_id) if i is not None})
        self.tokenizer, self.with_answer = tokenizer, with_answer
        if not self.end_ids:
            raise ModelError(
                f"arm {arm}: neither generation_config.json nor the tokenizer names an end token "
                "(eos_token_id)"
            )

    def reached(self, row: Row, tokens: Sequence[int]) -> bool:
        """Whether the last token ends the text."""
        return bool(tokens) and (tokens[-1] in self.end_ids or self._answered(row, tokens))

    def cut(self, row: Row, tokens: Sequence[int], known: int = 0) -> tuple[int, ...]:
        """The tokens up to the first one that ends the text, which stays.

        The first ``known`` of them do not, and are not looked at again.
        """
        beginnings = (tokens[:length] for length in range(known + 1, len(tokens)))
        return tuple(next((own for own in beginnings if self.reached(row, own)), tokens))

    def criteria(
        self, rows: Sequence[Row], begun: Sequence[Sequence[int]], width: int
    ) -> StoppingCriteriaList:
        """For ``generate``, whose ids have what stands already before ``width``."""
        return StoppingCriteriaList([_Answered(self, rows, begun, width)] * self.with_answer)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, special ones and all."""
        text: str = self.tokenizer.decode(
            tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return text

    def completion(self, row: Row, tokens: Sequence[int], taken_over: int = 0) -> Completion:
        """What is recorded of a text that is written."""
        text = self.decode(tokens[:-1] if tokens[-1] in self.end_ids else tokens)
        reason: FinishReason = "stop" if self.reached(row, tokens) else "length"
        return Completion(text, len(tokens), reason, tuple(tokens), taken_over)

    def _answered(self, row: Row, tokens: Sequence[int]) -> bool:
        if not self.with_answer or "\n" not in self.decode(tokens[-1:]):
            return False  # a fence counts when its line has ended
        return end_of_answer(self.decode(tokens), row.prompt.text) is not None


class _Answered(StoppingCriteria):  # type: ignore[misc]
    def __init__(
        self, end: TextEnd, rows: Sequence[Row], begun: Sequence[Sequence[int]], width: int
    ) -> None:
        self.end, self.rows, self.begun, self.width = end, rows, begun, width

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        written = input_ids[:, self.width :].tolist()
        texts = zip(self.rows, self.begun, written, strict=True)
        ended = [self.end.reached(row, (*own, *tokens)) for row, own, tokens in texts]
        return torch.tensor(ended, device=input_ids.device)
