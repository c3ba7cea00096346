"""The candidates of a turn by what they answer, whether a turn is a model or slices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Generic, NamedTuple, TypeVar

__all__ = ["PromptPart", "prompt_parts"]

P = TypeVar("P")
M = TypeVar("M")


class PromptPart(NamedTuple, Generic[P, M]):
    """Candidates that follow one another and answer the same prompt.

    Attributes:
        prompt: that they answer.
        members: the candidates.
        is_whole: whether it is the turn's own prompt, of which its ids of tokens are.
        is_last: whether no others follow.
    """

    prompt: P
    members: Sequence[M]
    is_whole: bool
    is_last: bool


def prompt_parts(
    prompt: P, shorter: P | None, members: Sequence[M], answered: Callable[[M], bool]
) -> Iterator[PromptPart[P, M]]:
    """Yield the candidates by their prompt: without its last message for those whose answer that is.

    Candidates stay in their order, so a prompt may be there more than once.

    Args:
        prompt: of the turn.
        shorter: the prompt without its last message; None where that is no candidate's answer.
        members: the candidates.
        answered: whether the last message is a candidate's answer.
    """
    if shorter is None:
        if members:
            yield PromptPart(prompt, members, is_whole=True, is_last=True)
        return
    done = 0
    for ended, found in groupby(members, answered):
        part = list(found)
        done += len(part)
        yield PromptPart(shorter if ended else prompt, part, is_whole=not ended, is_last=done == len(members))
