"""A closed turn in a program: its pairs as slices of JSON, and as objects when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Final

import msgspec
from msgspec import Raw

from tunestream.domain.turns.pair_rows import Preference
from tunestream.domain.turns.recorded_members import Member
from tunestream.events.groups import PreferenceGroup
from tunestream.events.trajectories import Trajectory

__all__ = ["ClosedTurn"]

_ABSENT: Final = Raw(b"")


class _Context(msgspec.Struct, gc=False):
    prompt: Raw
    tools: Raw = _ABSENT
    token_ids: Raw = _ABSENT


class _Member(msgspec.Struct, gc=False):
    id: str
    response: Raw
    score: float
    index: int | None = None
    context: int = 0
    token_ids: Raw = _ABSENT


class _Group(msgspec.Struct, gc=False):
    example_id: str
    turn_id: str
    contexts: list[_Context]
    members: list[_Member]
    pairs: list[tuple[int, int, float]]
    skipped: dict[str, int] = {}


_read: Final = msgspec.json.Decoder(_Group).decode


class ClosedTurn:
    """What one turn gives to training.

    Args:
        value: the JSON of its :class:`~tunestream.events.groups.PreferenceGroup`.

    Attributes:
        example_id: that it belongs to.
        turn_id: of that example.
        candidates: how many count.
        pairs: how many were made.
        skipped: how many were not, by reason.
    """

    def __init__(self, value: bytes) -> None:
        self._value = value
        self._group = group = _read(value)
        self.example_id = group.example_id
        self.turn_id = group.turn_id
        self.candidates = len(group.members)
        self.pairs = len(group.pairs)
        self.skipped = group.skipped

    @cached_property
    def group(self) -> PreferenceGroup:
        """The turn's group."""
        return PreferenceGroup.of_service(self._value)

    @property
    def trajectories(self) -> list[Trajectory]:
        """The trajectories of the pairs; each use makes them."""
        return self.group.trajectories

    def preferences(self) -> Iterator[Preference]:
        """Return the pairs, in order."""
        if not self._group.pairs:
            return
        members = [self._member(member) for member in self._group.members]
        for chosen, rejected, reward in self._group.pairs:
            better, worse = members[chosen], members[rejected]
            yield Preference(better, worse, better.score - worse.score, reward)

    def _member(self, member: _Member) -> Member:
        context = self._group.contexts[member.context]
        return Member(
            self.example_id,
            self.turn_id,
            member.id,
            member.index,
            bytes(context.prompt),
            bytes(member.response),
            member.score,
            bytes(context.tools),
            bytes(context.token_ids),
            bytes(member.token_ids),
        )
