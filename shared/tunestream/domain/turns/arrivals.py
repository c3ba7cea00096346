"""What of a record is new in its turn, what came before, and what has to be left out."""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

from tunestream.domain.effects import Effects, Refused
from tunestream.domain.turns.members import fingerprint, fingerprints
from tunestream.domain.turns.memory import Closed, name_mark
from tunestream.domain.turns.open_turn import OpenTurn
from tunestream.events.views.candidates import MemberView, SingleView, TurnView

__all__ = ["Arrivals", "arrivals_in_closed", "arrivals_in_open", "check_repeat"]


class Arrivals:
    """The candidates of one record.

    Args:
        part: the record.

    Attributes:
        new: those that the turn lacks, in order.
        marks: their fingerprints by id.
    """

    __slots__ = ("_faults", "_part", "marks", "new")

    def __init__(self, part: TurnView) -> None:
        self.new: Sequence[MemberView] = ()
        self.marks: dict[str, int] = {}
        self._part = part
        self._faults: list[tuple[int, str, str]] = []

    def leave_out(self, position: int, code: str, message: str) -> None:
        """Note that the candidate at a position does not count, and why."""
        self._faults.append((position, code, message))

    def raise_faults(self) -> None:
        """Refuse what was left out: one refusal names every position, by the first one's code.

        Raises:
            Refused: when something was left out.
        """
        if not self._faults:
            return
        _, code, message = self._faults[0]
        if not isinstance(self._part, SingleView):
            positions = ", ".join(str(position) for position, _, _ in self._faults)
            message = f"candidates {positions} of {len(self._part.candidates)} are left out: {message}"
        raise Refused(code, message)


def arrivals_in_open(turn: OpenTurn, part: TurnView, effects: Effects) -> Arrivals:
    """Compare a record with the open turn of its id."""
    arrivals, candidates = Arrivals(part), part.candidates
    marks = fingerprints(candidates)
    room = turn.rules.capacity - len(turn)
    if len(marks) == len(candidates) <= room and marks.keys().isdisjoint(turn.marks):
        arrivals.new, arrivals.marks = candidates, marks
    else:
        _compare_each(arrivals, turn, part, effects)
    return arrivals


def _compare_each(arrivals: Arrivals, turn: OpenTurn, part: TurnView, effects: Effects) -> None:
    capacity, seen, fresh = turn.rules.capacity, turn.marks, arrivals.marks
    room = capacity - len(turn)
    new: list[MemberView] = []
    for position, candidate in enumerate(part.candidates):
        name, mark = candidate.candidate_id, fingerprint(candidate)
        known = seen.get(name, fresh.get(name))
        if known is not None:
            _compare(arrivals, position, known == mark, effects)
        elif len(new) >= room:
            arrivals.leave_out(
                position,
                "turn_full",
                f"turn {part.turn_id!r} has {capacity} candidates; raise max_candidates_per_turn of its run",
            )
        else:
            fresh[name] = mark
            new.append(candidate)
    arrivals.new = new


def arrivals_in_closed(closed: Closed, part: TurnView, raw: bytes, effects: Effects) -> Arrivals:
    """Compare a record with the turn of its id that was closed."""
    arrivals, marks = Arrivals(part), closed.marks()
    for position, candidate in enumerate(part.candidates):
        known = marks.get(name_mark(candidate.candidate_id))
        if known is None:
            arrivals.leave_out(
                position,
                "late",
                f"turn {part.turn_id!r} was closed; send candidates before its end or time-out",
            )
        elif closed.of_content:
            _compare(arrivals, position, known == fingerprint(candidate), effects)
        else:  # up to format 2 whole bodies were compared, which candidates of a turn record do not have
            same = known == crc32(raw) if isinstance(part, SingleView) else True
            _compare(arrivals, position, same, effects)
    return arrivals


def _compare(arrivals: Arrivals, position: int, same: bool, effects: Effects) -> None:
    if same:
        effects.counts["duplicate"] += 1
    else:
        arrivals.leave_out(position, "contradiction", _CONTRADICTION)


def check_repeat(known: int, mark: int, effects: Effects) -> None:
    """Count an identical repeat of an episode.

    Raises:
        Refused: when it came before with another body.
    """
    if known != mark:
        raise Refused("contradiction", _CONTRADICTION)
    effects.counts["duplicate"] += 1


_CONTRADICTION = "this id came before with another body; give every candidate an id of its own"
