"""Completions by the served weights.

Not safe for threads: the server calls it from one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import AutoTokenizer

from tunestream.devserver.bodies import ApiError
from tunestream.devserver.sampling import Completion, Question, SampledToken, choose
from tunestream.devserver.weights import ServedWeights

__all__ = ["WeightsEngine"]


@dataclass(slots=True)
class _Row:
    question: Question
    generator: torch.Generator | None
    tokens: list[int] = field(default_factory=list)
    sampled: list[SampledToken] = field(default_factory=list)
    answer: Completion | None = None


class WeightsEngine:
    """Answers questions with the base model or with any version loaded beside it.

    Attributes:
        weights: what is served.

    Args:
        folder: the base model with its tokenizer.
        name: what the base model is called in requests.
        seed: of the questions that bring no seed of their own.
    """

    def __init__(self, folder: Path, name: str, *, seed: int) -> None:
        self._name = name
        self.weights = ServedWeights(folder, name)
        self._tokenizer = _tokenizer(folder)
        self._words: dict[int, str] = {}
        self._ends = _ends(self._tokenizer, self.weights.base)
        self._generator = torch.Generator().manual_seed(seed)

    @property
    def context(self) -> int:
        """The longest sequence in tokens, answer included."""
        return int(self.weights.base.config.max_position_embeddings)

    def encode(self, messages: list[dict[str, str]]) -> tuple[int, ...]:
        """Return a conversation's token ids, ready for the assistant's answer.

        Raises:
            ApiError: the model has no chat template.
        """
        if self._tokenizer.chat_template is None:
            text = f"{self._name} has no chat template; ask /v1/completions"
            raise ApiError(400, text, kind="BadRequestError", param="messages")
        text = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def tokenize(self, prompt: str | list[int]) -> tuple[int, ...]:
        """Return a plain prompt's token ids, with what the tokenizer puts before every text.

        Raises:
            ApiError: the prompt is empty, or holds an id that is no token's.
        """
        ids = tuple(self._tokenizer(prompt)["input_ids"] if isinstance(prompt, str) else prompt)
        if not ids or not all(0 <= token < len(self._tokenizer) for token in ids):
            text = f"a prompt needs tokens, with ids below {len(self._tokenizer)}"
            raise ApiError(400, text, kind="BadRequestError", param="prompt")
        return ids

    def word(self, token: int) -> str:
        """Return a token's text; a part of a character is shown as the replacement character."""
        if token not in self._words:
            self._words[token] = str(self._tokenizer.decode([token]))
        return self._words[token]

    def answer(self, questions: Sequence[Question]) -> list[Completion | Exception]:
        """Answer all questions, those to one model in one batch."""
        rows = [_Row(question, _generator(question)) for question in questions]
        by_model: dict[str, list[_Row]] = defaultdict(list)
        for row in rows:
            by_model[row.question.model].append(row)
        for name, members in by_model.items():
            if self.weights.serves(name):
                self._decode(name, members)
        return [row.answer or _unknown(row.question.model) for row in rows]

    @torch.inference_mode()
    def _decode(self, name: str, rows: list[_Row]) -> None:
        """Draw one token after the other; rows that have ended leave the batch and its cache."""
        weights, device = self.weights.activate(name), self.weights.device
        prompts = {"input_ids": [list(row.question.prompt) for row in rows]}
        padded = self._tokenizer.pad(prompts, return_tensors="pt").to(device)
        tokens, mask = padded["input_ids"], padded["attention_mask"]
        cached = any(row.question.max_tokens > 1 for row in rows)
        cache: Any = None
        while rows:
            places = (mask.cumsum(-1) - 1).clamp_min(0)[:, -tokens.shape[1] :]
            output = weights(
                input_ids=tokens,
                attention_mask=mask,
                position_ids=places,
                past_key_values=cache,
                use_cache=cached,
                logits_to_keep=1,
            )
            cache = output.past_key_values
            chosen = self._next_tokens(rows, output.logits[:, -1].float().cpu()).to(device)
            going = [index for index, row in enumerate(rows) if row.answer is None]
            if going and len(going) < len(rows):
                chosen, mask = chosen[going], mask[going]
                cache.batch_select_indices(torch.tensor(going, device=device))
            rows = [rows[index] for index in going]
            tokens, mask = chosen[:, None], torch.nn.functional.pad(mask, (0, 1), value=1)

    def _next_tokens(self, rows: list[_Row], logits: Tensor) -> Tensor:
        """Choose each row's next token from its logits (rows, vocabulary)."""
        questions = [row.question for row in rows]
        own = [row.generator for row in rows]
        chosen = choose(questions, logits, shared=self._generator, own=own)
        logprobs = logits.log_softmax(-1)
        width = min(max(row.question.top for row in rows), logits.shape[-1])
        values, tokens = (part.tolist() for part in logprobs.topk(width))
        for index, (row, token) in enumerate(zip(rows, chosen.tolist(), strict=True)):
            top = tuple(zip(tokens[index], values[index], strict=True))[: row.question.top]
            self._advance(row, token, SampledToken(token, float(logprobs[index, token]), top))
        return chosen

    def _advance(self, row: _Row, token: int, sampled: SampledToken) -> None:
        row.tokens.append(token)
        if token in self._ends:
            row.sampled += [] if row.sampled else [sampled]
            row.answer = self._finished(row, "stop")
            return
        row.sampled.append(sampled)
        ends = [at for at in (self._text(row).find(stop) for stop in row.question.stop) if at >= 0]
        if ends:
            row.answer = self._finished(row, "stop", upto=min(ends))
        elif len(row.tokens) >= row.question.max_tokens:
            row.answer = self._finished(row, "length")

    def _text(self, row: _Row) -> str:
        return str(self._tokenizer.decode(row.tokens, skip_special_tokens=True))

    def _finished(
        self, row: _Row, finish: Literal["stop", "length"], *, upto: int | None = None
    ) -> Completion:
        return Completion(self._text(row)[:upto], tuple(row.sampled), len(row.tokens), finish)


def _tokenizer(folder: Path) -> Any:
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, padding_side="left")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _ends(tokenizer: Any, weights: Any) -> frozenset[int]:
    """Return the tokens that end an answer: the tokenizer's, and those that the model itself names."""
    named = weights.generation_config.eos_token_id
    found = {tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])}
    return frozenset(token for token in found if token is not None)


def _generator(question: Question) -> torch.Generator | None:
    return None if question.seed is None else torch.Generator().manual_seed(question.seed)


def _unknown(model: str) -> ApiError:
    return ApiError(404, f"The model `{model}` does not exist.", kind="NotFoundError", param="model")
