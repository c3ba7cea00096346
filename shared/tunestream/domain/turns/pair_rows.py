"""Preferences as lines of a file: put together of slices, nothing is parsed and no model made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any, Final, NamedTuple

import orjson
from orjson import Fragment

from tunestream.domain.collector.nat_steps import NATCandidate
from tunestream.domain.turns.recorded_members import Member, member_of
from tunestream.events.trajectories import DPOItem, TrajectoryGroup

__all__ = ["LINES", "PairFormat", "Preference", "pair_line", "preferences_of", "trl_line"]


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


def preferences_of(group: TrajectoryGroup) -> Iterator[Preference]:
    """Return the pairs of a group."""
    for trajectory in group.trajectories:
        item, metadata = trajectory.episode[0], trajectory.metadata or {}
        assert isinstance(item, DPOItem)
        chosen, rejected = (
            member_of(
                NATCandidate(
                    group.example_id,
                    group.turn_id,
                    metadata[f"{which}_index"],
                    item.prompt,
                    getattr(item, f"{which}_response"),
                    metadata[f"{which}_score"],
                    {},
                )
            )
            for which in ("chosen", "rejected")
        )
        yield Preference(chosen, rejected, metadata["score_diff"], trajectory.reward)


def pair_line(preference: Preference) -> bytes:
    """Return the flat form of a preference, the fields of :class:`~tunestream.events.PreferencePair`."""
    chosen, rejected, diff, reward = preference
    return _line(
        {
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
    )


def trl_line(preference: Preference) -> bytes:
    """Return TRL's row: conversational when the prompt is a list of messages, else plain text."""
    chosen, rejected, *_ = preference
    plain = chosen.prompt[:1] == b'"'
    answers = {
        name: Fragment(member.response)
        if plain
        else [{"role": "assistant", "content": Fragment(member.response)}]
        for name, member in (("chosen", chosen), ("rejected", rejected))
    }
    return _line({"prompt": Fragment(chosen.prompt), **answers})


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
