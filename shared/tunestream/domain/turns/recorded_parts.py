"""What the pair builder takes of a recording: candidates of one turn that follow one another as one part."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from tunestream.domain.turns.offline import OfflineBuilder
from tunestream.domain.turns.recorded_members import Found, Member
from tunestream.domain.turns.recorded_steps import milliseconds
from tunestream.events.ttc import ExampleEnd, TurnEnd
from tunestream.events.views.candidates import MemberView, SingleView, TurnView

__all__ = ["RUN", "recorded_parts"]

RUN: Final = "offline"

_Event = TurnView | TurnEnd | ExampleEnd


def recorded_parts(
    found: Iterable[tuple[int, Found]], builder: OfflineBuilder
) -> Iterator[tuple[int, _Event, int]]:
    """Give line, event and stream time in ms of what the builder has to take, each before the next is read.

    Args:
        found: what lines hold, with their numbers.
        builder: that takes each event when it is given.

    Raises:
        RecordingError: when a time is none.
    """
    now, part = 0, None
    for number, each in found:
        if not each.members and each.ends_turn is None and not each.ends_example:
            continue
        now = max(now, milliseconds(number, each.seconds) or now)
        if part is not None:
            if part.extend(each, now):
                continue
            yield part.taken()
            part = None
        if _is_single(each) and builder.is_new(each.example_id, each.members[0].turn_id):
            part = _Part(number, each.members[0], now, builder)
        else:
            yield number, _event(each), now
    if part is not None:
        yield part.taken()


class _Part:
    """Candidates that begin a turn, one a line.

    Taken at the time of the last one they give what each at its own time gives: ids that differ, in a turn
    that is not known, are neither repeats nor contradictions, and a turn times out by its latest candidate.
    """

    def __init__(self, number: int, first: Member, now: int, builder: OfflineBuilder) -> None:
        self._number = number
        self._members = [first]
        self._ids = {first.candidate_id}
        self._now = now
        self._rules = builder.rules

    def extend(self, found: Found, now: int) -> bool:
        """Add the candidate of a line, if it surely belongs here."""
        if not _is_single(found) or now - self._now >= self._rules.idle_ms:
            return False
        member, first = found.members[0], self._members[0]
        if (
            member.turn_id != first.turn_id
            or member.example_id != first.example_id
            or member.candidate_id in self._ids
            or len(self._members) >= self._rules.capacity
            or not _same_context(member, first)
        ):
            return False
        self._members.append(member)
        self._ids.add(member.candidate_id)
        self._now = now
        return True

    def taken(self) -> tuple[int, TurnView, int]:
        """Return the number of the first line, the part and its time, ms."""
        return self._number, _view(self._members, complete=False), self._now


def _is_single(found: Found) -> bool:
    """Return whether there is one candidate, of a turn that only a marker or the time ends."""
    return len(found.members) == 1 and found.ends_turn is None and found.members[0].expected is None


def _same_context(one: Member, other: Member) -> bool:
    return (
        one.prompt == other.prompt
        and one.tools == other.tools
        and one.prompt_token_ids == other.prompt_token_ids
    )


def _event(found: Found) -> _Event:
    if found.members:
        return _view(found.members, complete=found.ends_turn is not None)
    if found.ends_turn is not None:
        return TurnEnd(run_id=RUN, example_id=found.example_id, turn_id=found.ends_turn)
    return ExampleEnd(run_id=RUN, example_id=found.example_id)


def _view(members: Sequence[Member], *, complete: bool) -> TurnView:
    first = members[0]
    view = SingleView if len(members) == 1 and not complete else TurnView
    return view(
        RUN,
        first.example_id,
        first.turn_id,
        first.prompt,
        tuple([_member(each) for each in members]),
        complete,
        first.expected,
        first.tools or None,
        first.prompt_token_ids or None,
    )


def _member(member: Member) -> MemberView:
    return MemberView(
        member.candidate_id, member.index, member.response, member.score, None, member.token_ids or None
    )
