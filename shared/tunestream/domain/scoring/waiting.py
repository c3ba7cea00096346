"""Turns of one partition that are closed to candidates and wait for scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from tunestream.domain.effects import Effects, Refused
from tunestream.domain.scoring.asked import ASKED, Asked, AskedTurns, members_digest
from tunestream.domain.scoring.given import SCORE, GivenScores, TurnKey, join
from tunestream.domain.scoring.kept import KEPT, Kept, KeptTurns, kept_key
from tunestream.domain.scoring.rules import ScoringRules
from tunestream.domain.scoring.turns import Scores, Turns, WaitingTurn
from tunestream.events.keys import decode_key
from tunestream.events.scores import ScoreAnswer, ScoreStep
from tunestream.events.trajectories import CloseReason

__all__ = ["Waiting"]

T = TypeVar("T", bound=WaitingTurn)
Due = tuple[str, ...]  # of a turn, or of a candidate

# What is caught up on with one record when a reward service comes.
_ASKED_AT_ONCE: Final = 16


class Waiting(Generic[T]):
    """The turns that wait, and the scores that people gave.

    A turn of a run with a reward function is asked about, once, when there is a reward service; its answer
    closes it, no time does. All others are kept whole, until every candidate has a score, their time is up or
    they take too much room. The group of a turn has the time at which the turn was complete.

    State keys: ``kept/run/example/=turn/digest`` marks a turn that is kept, ``asked/run/name/digest`` one
    that was asked about; ``score/run/example/=turn/candidate`` holds the scores that people gave.

    Args:
        turns: their owner.
        rules: (run id, config digest) → how turns wait; None for a run that has none.
        is_open: (turn, candidate id) → whether the candidate is in an open turn.
        has_service: whether a reward service answers requests.
    """

    def __init__(
        self,
        turns: Turns[T],
        rules: Callable[[str, str], ScoringRules | None],
        is_open: Callable[[TurnKey, str], bool],
        has_service: Callable[[], bool],
    ) -> None:
        self._turns = turns
        self._rules = rules
        self._is_open = is_open
        self._has_service = has_service
        self._kept = KeptTurns[T]()
        self._asked = AskedTurns()
        self._given = GivenScores(self._has_come)
        self._unasked: dict[TurnKey, None] = {}
        self._marks: dict[TurnKey, tuple[int, CloseReason]] = {}

    def __contains__(self, key: TurnKey) -> bool:
        """Return whether a turn waits."""
        return self._kept.find(key) is not None or self._asked.find(key) is not None

    def __len__(self) -> int:
        """Return how many turns wait."""
        return len(self._kept) + len(self._asked)

    @property
    def has_scores(self) -> bool:
        """Whether people's scores are kept, for any turn."""
        return bool(self._given)

    @property
    def size(self) -> int:
        """Bytes of the turns that are kept whole."""
        return self._kept.size

    @property
    def oldest(self) -> int | None:
        """Stream time at which the oldest of them was complete, ms; None when none waits."""
        known = [time for time in (self._kept.oldest(), self._asked.oldest()) if time is not None]
        return min(known, default=None)

    def without_service(self) -> dict[str, int]:
        """Return how many turns of each run wait for a reward service that is not there."""
        if self._has_service():
            return {}
        return dict(Counter(self._asked.counts()) + Counter(run for run, _, _ in self._unasked))

    def awaits(self, key: TurnKey, request_id: str) -> bool:
        """Return whether an answer to a request is awaited."""
        asked = self._asked.find(key)
        return asked is not None and asked.request_id == request_id

    def complete(
        self, key: TurnKey, turn: T, reason: CloseReason, at: int, effects: Effects
    ) -> Scores | None:
        """Take a turn that is closed to candidates, if it waits.

        Args:
            key: of the turn.
            turn: the turn.
            reason: why it is closed.
            at: stream time of that, ms.
            effects: receives what is to be done.

        Returns:
            The scores that people gave its candidates when it does not wait, and None when it does.
        """
        self._given.settle(key, turn.ids, effects)
        given = dict(self._given.of(key))
        rules = self._rules(key[0], turn.config_digest)
        missing = {name for name in turn.unscored if name not in given}
        if rules is None or not rules.waits or not missing:
            self._given.remove(key, effects)
            return given
        if rules.asks and self._has_service():
            self._ask(key, turn, reason, at, effects)
            return None
        self._keep(key, Kept(turn, rules, reason, at, missing))
        effects.put(kept_key(key, turn.config_digest), b"%d %s" % (at, reason.encode()))
        while (oldest := self._kept.excess(key[0], rules.most_bytes)) is not None:
            effects.counts["waiting_full"] += 1
            self._close(oldest, effects)
        return None

    def score(
        self, step: ScoreStep, config_digest: str, now: int, *, everywhere: bool, effects: Effects
    ) -> None:
        """Take a score of a turn that is open, waits or is not known.

        Args:
            step: the score.
            config_digest: of the configuration by which it waits for its candidate.
            now: stream time, ms.
            everywhere: whether copies of it went to every partition.
            effects: receives what is to be done.

        Raises:
            Refused: when the turn takes no such candidate any more.
        """
        key, name = (step.run_id, step.example_id, step.turn_id), step.candidate_id
        rules = self._rules(step.run_id, config_digest)
        if rules is None:
            raise Refused(
                "wrong_builder",
                f"run {step.run_id!r} collects episodes, which come with their reward: it takes no scores",
            )
        kept = self._kept.find(key)
        if kept is not None and name not in kept.turn.ids:
            raise Refused(
                "late", f"turn {step.turn_id!r} takes no more candidates, and has none that this score is of"
            )
        until = None if self._has_come(key, name) else now + rules.early_ms
        self._given.add(key, step, until=until, everywhere=everywhere, effects=effects)
        if kept is not None:
            kept.missing.discard(name)
            if not kept.missing:
                self._close(key, effects)

    def answer(self, answer: ScoreAnswer, effects: Effects) -> None:
        """Close the turn that an answer is for; one that nobody waits for is dropped and counted.

        Raises:
            Refused: when it is for other candidates than were asked about; the turn waits on.
        """
        key = (answer.run_id, answer.example_id, answer.turn_id)
        asked = self._asked.find(key)
        if asked is None or not self.awaits(key, answer.request_id):
            effects.counts["answer_dropped"] += 1
            return
        ids = [member.id for member in answer.members]
        if members_digest(ids) != asked.members:
            raise Refused(
                "contradiction",
                "members are not those of the request; answer with every candidate, in the request's order",
            )
        effects.delete(self._asked.remove(key))
        self._given.settle(key, ids, effects)
        scores = dict(self._given.of(key))
        join(scores, [answer.members[position] for position in sorted(asked.unscored)])
        self._end(key, self._turns.rebuild(key, asked, answer), asked.reason, asked.at, scores, effects)

    def next_due(self, time: int) -> tuple[int, Due] | None:
        """Return the first turn or score, by (deadline, key), whose deadline is not after ``time``."""
        if not self._kept and not self._given:
            return None
        due = [one for one in (self._kept.next_due(time), self._given.next_due(time)) if one is not None]
        return min(due, default=None)

    def expire(self, due: Due, effects: Effects) -> None:
        """Do what is due: close a turn with the scores that it has, or drop a score without a candidate."""
        if len(due) == 3:
            effects.counts["score_timeout"] += 1
            self._close((due[0], due[1], due[2]), effects)
        else:
            run, example, turn, name = due
            self._given.expire((run, example, turn, name), effects)

    def catch_up(self, effects: Effects) -> None:
        """Ask about turns that were kept while no reward service was there, a few at a time."""
        if not self._unasked or not self._has_service():
            return
        for key in list(self._unasked)[:_ASKED_AT_ONCE]:
            kept = self._remove(key, effects)
            self._ask(key, kept.turn, kept.reason, kept.at, effects)

    def restore(self, key: bytes, value: bytes) -> None:
        """Take back one live record of the changelog, in any order; :meth:`settle` must follow."""
        kind, _, _ = key.partition(b"/")
        if kind == KEPT.encode():
            _, run, example, turn, _ = decode_key(key)
            at, reason = value.decode().split()[:2]
            self._marks[run, example, turn[1:]] = int(at), CloseReason(reason)
        elif kind == ASKED.encode():
            self._asked.restore(key, value)
        elif kind == SCORE.encode():
            self._given.restore(key, value)

    def settle(self) -> None:
        """Let the turns wait that were restored as open ones."""
        if not self._marks:
            return
        for key, (at, reason) in sorted(self._marks.items(), key=lambda mark: (mark[1], mark[0])):
            turn = self._turns.reopen(key)
            rules = self._rules(key[0], turn.config_digest)
            assert rules is not None
            given = self._given.of(key)
            missing = {name for name in turn.unscored if name not in given}
            self._keep(key, Kept(turn, rules, reason, at, missing))
        self._marks.clear()

    def _has_come(self, key: TurnKey, name: str) -> bool:
        kept = self._kept.find(key)
        if kept is not None:
            return name in kept.turn.ids
        return self._is_open(key, name) or self._asked.find(key) is not None

    def _keep(self, key: TurnKey, kept: Kept[T]) -> None:
        self._kept.add(key, kept)
        if kept.rules.asks:
            self._unasked[key] = None

    def _remove(self, key: TurnKey, effects: Effects) -> Kept[T]:
        kept = self._kept.remove(key)
        self._unasked.pop(key, None)
        effects.delete(kept_key(key, kept.turn.config_digest))
        return kept

    def _ask(self, key: TurnKey, turn: T, reason: CloseReason, at: int, effects: Effects) -> None:
        ids, unscored = turn.ids, set(turn.unscored)
        positions = frozenset(number for number, name in enumerate(ids) if name in unscored)
        request_id = self._turns.ask(key, turn, at, self._given.of(key), effects)
        asked = Asked(at, reason, request_id, members_digest(ids), positions, turn.config_digest)
        effects.put(*self._asked.add(key, asked))
        effects.counts["scores_asked"] += 1

    def _close(self, key: TurnKey, effects: Effects) -> None:
        kept = self._remove(key, effects)
        self._end(key, kept.turn, kept.reason, kept.at, dict(self._given.of(key)), effects)

    def _end(
        self, key: TurnKey, turn: T, reason: CloseReason, at: int, scores: Scores, effects: Effects
    ) -> None:
        self._given.remove(key, effects)
        self._turns.close(key, turn, reason, at, scores, effects)
