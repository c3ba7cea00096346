"""Preferences as lines of a file: put together of slices, nothing is parsed and no model made."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final, NamedTuple

import orjson
from orjson import Fragment

from tunestream.domain.turns.recorded_members import Member, encoded, encoded_list, encoded_prompt
from tunestream.events.trajectories import DPOItem
from tunestream.events.views.slices import integer

__all__ = ["LINES", "PairFormat", "Preference", "pair_line", "trl_line", "trl_line_of"]


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
        "chosen_response": Fragment(chosen.response),
        "rejected_response": Fragment(rejected.response),
        "chosen_score": chosen.score,
        "rejected_score": rejected.score,
        "score_diff": diff,
        "chosen_index": chosen.index,
        "rejected_index": rejected.index,
        "reward": reward,
    }
    if chosen.more or rejected.more:
        _add_more(row, chosen, rejected)
    return _line(row)


def _add_more(row: dict[str, Any], chosen: Member, rejected: Member) -> None:
    """Add what is more than text, and the texts of messages."""
    more = {
        "tools": chosen.tools,
        "chosen_message": b"" if _is_text(chosen.response) else chosen.response,
        "rejected_message": b"" if _is_text(rejected.response) else rejected.response,
        "prompt_token_ids": chosen.prompt_token_ids,
        "chosen_token_ids": chosen.token_ids,
        "rejected_token_ids": rejected.token_ids,
    }
    for name, member in (("chosen_response", chosen), ("rejected_response", rejected)):
        if not _is_text(member.response):
            row[name] = orjson.loads(member.response)["content"]
    row |= {name: Fragment(value) for name, value in more.items() if value}


def trl_line(preference: Preference) -> bytes:
    """Return TRL's row: plain text where prompt and answers are that, else conversational."""
    chosen, rejected, *_ = preference
    return _trl_line(chosen.prompt, chosen.tools, chosen.response, rejected.response)


def trl_line_of(item: DPOItem) -> bytes:
    """Return TRL's row of a preference that is spelt out."""
    return _trl_line(
        encoded_prompt(item.prompt),
        encoded_list(item.tools),
        encoded(item.chosen_message or item.chosen_response),
        encoded(item.rejected_message or item.rejected_response),
    )


def _trl_line(asked: bytes, tools: bytes, chosen: bytes, rejected: bytes) -> bytes:
    prompt: object = Fragment(asked)
    text = asked[:1] == b'"'
    if text and not tools and _is_text(chosen) and _is_text(rejected):
        answers: list[object] = [Fragment(chosen), Fragment(rejected)]
    else:
        answers = [_answer(chosen), _answer(rejected)]
        if text:
            prompt = [{"role": "user", "content": prompt}]
    row = {"prompt": prompt, "chosen": answers[0], "rejected": answers[1]}
    return _line(row | ({"tools": Fragment(tools)} if tools else {}))


def _answer(response: bytes) -> object:
    """Return an answer as a conversation goes on."""
    written = Fragment(response)
    return [{"role": "assistant", "content": written} if _is_text(response) else written]


def _is_text(response: bytes) -> bool:
    return response[:1] == b'"'


def _line(row: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(row)
    except TypeError:  # an integer of more than 64 bits
        return orjson.dumps(
            {name: integer(value) if type(value) is int else value for name, value in row.items()}
        )


LINES: Final[dict[PairFormat, Callable[[Preference], bytes]]] = {
    PairFormat.PAIRS: pair_line,
    PairFormat.TRL: trl_line,
}
