"""A closed turn in a program: its pairs as slices of JSON, and as objects when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from tunestream.domain.turns.members import Context
from tunestream.domain.turns.pair_rows import Preference
from tunestream.domain.turns.recorded_members import Member
from tunestream.domain.turns.turn_group import TurnGroup
from tunestream.events.groups import PreferenceGroup
from tunestream.events.trajectories import Trajectory
from tunestream.events.views.candidates import MemberView

__all__ = ["ClosedTurn"]


class ClosedTurn:
    """What one turn gives to training.

    Args:
        group: that its candidates make.

    Attributes:
        example_id: that it belongs to.
        turn_id: of that example.
        candidates: how many count.
        pairs: how many were made.
        skipped: how many were not, by reason.
    """

    def __init__(self, group: TurnGroup) -> None:
        self._group = group
        self.example_id = group.example_id
        self.turn_id = group.turn_id
        self.candidates = len(group.members.candidates)
        self.pairs = len(group.pairs)
        self.skipped = group.skipped

    @cached_property
    def group(self) -> PreferenceGroup:
        """The turn's group."""
        return PreferenceGroup.of_service(self._group.encode())

    @property
    def trajectories(self) -> list[Trajectory]:
        """The trajectories of the pairs; each use makes them."""
        return self.group.trajectories

    def preferences(self) -> Iterator[Preference]:
        """Return the pairs, in order."""
        if not self._group.pairs:
            return
        candidates, contexts, places = self._group.members
        members = [self._member(one, contexts[place]) for one, place in zip(candidates, places, strict=True)]
        for chosen, rejected, reward in self._group.pairs:
            better, worse = members[chosen], members[rejected]
            yield Preference(better, worse, better.score - worse.score, reward)

    def _member(self, candidate: MemberView, context: Context) -> Member:
        assert candidate.score is not None
        return Member(
            self.example_id,
            self.turn_id,
            candidate.candidate_id,
            candidate.candidate_index,
            context.prompt,
            candidate.response,
            candidate.score,
            context.tools or b"",
            context.token_ids or b"",
            candidate.token_ids or b"",
        )
