"""Completions in the shapes of the API."""

from __future__ import annotations

from tunestream.devserver.bodies import (
    ChoiceLogprobs,
    CompletionLogprobs,
    Drawing,
    TokenLogprob,
    TopLogprob,
    Usage,
)
from tunestream.devserver.engine import WeightsEngine
from tunestream.devserver.sampling import Completion

__all__ = ["TokenView", "usage_of"]


def usage_of(answers: list[Completion], prompt_tokens: int) -> Usage:
    """Return how many tokens were read and written."""
    completion_tokens = sum(answer.tokens for answer in answers)
    return Usage(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=prompt_tokens + completion_tokens,
    )


class TokenView:
    """Log-probabilities in the shape that a request asks for.

    Args:
        engine: knows the texts of tokens.
        request: whether tokens are written as ids.
    """

    def __init__(self, engine: WeightsEngine, request: Drawing) -> None:
        self._engine = engine
        self._as_ids = request.return_tokens_as_token_ids

    def _name(self, token: int) -> str:
        return f"token_id:{token}" if self._as_ids else self._engine.word(token)

    def of_chat(self, answer: Completion) -> ChoiceLogprobs:
        """Return those of a chat completion."""
        return ChoiceLogprobs(
            content=[
                TokenLogprob(
                    **self._entry(each.token, each.logprob).model_dump(),
                    top_logprobs=[self._entry(*other) for other in each.top],
                )
                for each in answer.sampled
            ]
        )

    def _entry(self, token: int, logprob: float) -> TopLogprob:
        name = self._name(token)
        return TopLogprob(token=name, logprob=logprob, bytes=list(name.encode()))

    def of_completion(self, answer: Completion) -> CompletionLogprobs:
        """Return those of a plain completion."""
        names = [self._name(each.token) for each in answer.sampled]
        lengths = [len(self._engine.word(each.token)) for each in answer.sampled]
        return CompletionLogprobs(
            tokens=names,
            token_logprobs=[each.logprob for each in answer.sampled],
            top_logprobs=[
                {self._name(token): value for token, value in [*each.top, (each.token, each.logprob)]}
                for each in answer.sampled
            ],
            text_offset=[sum(lengths[:index]) for index in range(len(lengths))],
        )
