"""Preferences as lines of a file: put together of slices, nothing is parsed and no model made."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final, NamedTuple

import orjson
from orjson import Fragment

from tunestream.domain.turns.recorded_members import Member

__all__ = ["LINES", "PairFormat", "Preference", "pair_line", "trl_line"]


class PairFormat(StrEnum):
    """What a line is."""

    PAIRS = "pairs"
    TRL = "trl"


class Preference(NamedTuple):
    """``chosen`` is preferred to ``rejected``; ``score_diff`` is the raw difference of their scores."""

    chosen: Member
    rejected: Member
    score_diff: float
    reward: float


def pair_line(preference: Preference) -> bytes:
    """Return the flat form of a preference, the fields of :class:`~tunestream.events.PreferencePair`."""
    chosen, rejected, diff, reward = preference
    row = {
        "example_id": chosen.example_id,
        "turn_id": chosen.turn_id,
        "prompt": Fragment(chosen.prompt),
        "chosen_response": _text(chosen),
        "rejected_response": _text(rejected),
        "chosen_score": chosen.score,
        "rejected_score": rejected.score,
        "score_diff": diff,
        "chosen_index": chosen.index,
        "rejected_index": rejected.index,
        "reward": reward,
    }
    if _is_plain(chosen) and _is_plain(rejected):
        return _line(row)
    more = {
        "tools": chosen.tools,
        "chosen_message": b"" if _is_text(chosen) else chosen.response,
        "rejected_message": b"" if _is_text(rejected) else rejected.response,
        "prompt_token_ids": chosen.prompt_token_ids,
        "chosen_token_ids": chosen.token_ids,
        "rejected_token_ids": rejected.token_ids,
    }
    return _line(row | {name: Fragment(value) for name, value in more.items() if value})


def trl_line(preference: Preference) -> bytes:
    """Return TRL's row: conversational when the prompt or an answer is more than text, else plain text."""
    chosen, rejected, *_ = preference
    prompt: object = Fragment(chosen.prompt)
    if chosen.prompt[:1] == b'"' and _is_text(chosen) and _is_text(rejected):
        answers: list[object] = [Fragment(chosen.response), Fragment(rejected.response)]
    else:
        answers = [_answer(chosen), _answer(rejected)]
        if chosen.prompt[:1] == b'"':
            prompt = [{"role": "user", "content": prompt}]
    row = {"prompt": prompt, "chosen": answers[0], "rejected": answers[1]}
    return _line(row | ({"tools": Fragment(chosen.tools)} if chosen.tools else {}))


def _answer(member: Member) -> object:
    """Return an answer as a conversation goes on."""
    response = Fragment(member.response)
    return [{"role": "assistant", "content": response} if _is_text(member) else response]


def _text(member: Member) -> Fragment | str:
    """Return what was written in an answer."""
    return Fragment(member.response) if _is_text(member) else orjson.loads(member.response)["content"]


def _is_text(member: Member) -> bool:
    return member.response[:1] == b'"'


def _is_plain(member: Member) -> bool:
    return _is_text(member) and not (member.tools or member.prompt_token_ids or member.token_ids)


def _line(row: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(row)
    except TypeError:  # an integer of more than 64 bits
        return orjson.dumps(
            {name: Fragment(str(value)) if type(value) is int else value for name, value in row.items()}
        )


LINES: Final[dict[PairFormat, Callable[[Preference], bytes]]] = {
    PairFormat.PAIRS: pair_line,
    PairFormat.TRL: trl_line,
}
