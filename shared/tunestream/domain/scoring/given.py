"""Scores that people and other systems gave candidates, and those whose candidate has not come."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from pydantic import Field

from tunestream.domain.deadlines import Deadlines
from tunestream.domain.effects import Effects
from tunestream.events.base import FiniteFloat, Metadata, Sparse
from tunestream.events.keys import decode_key, encode_key
from tunestream.events.scores import AskedMember, ScoreStep

__all__ = [
    "OF_THE_REWARD_FUNCTION",
    "SCORE",
    "CandidateScores",
    "GivenScore",
    "GivenScores",
    "TurnKey",
    "join",
]

TurnKey = tuple[str, str, str]  # run, example, turn
_Name = tuple[str, str, str, str]  # and candidate

SCORE: Final = "score"
"""First part of the state key of a candidate's scores."""
OF_THE_REWARD_FUNCTION: Final = "reward_function"
"""The source of scores that the reward service answered with."""

_SCORES_A_CANDIDATE: Final = 8
_METADATA_BYTES: Final = 1024
_EARLY_A_PARTITION: Final = 100_000
_END: Final = sys.maxsize


class GivenScore(Sparse):
    """One score; ``metadata`` is what came with it, unless it is large."""

    score: FiniteFloat
    source: str
    metadata: Metadata | None = None


class CandidateScores(Sparse):
    """The scores of one candidate in order of arrival: the first counts.

    ``until`` is the stream time, ms, until which they wait for their candidate; None when it is here.
    ``everywhere`` marks copies that went to every partition: one without a candidate is no loss.
    """

    scores: list[GivenScore] = Field(min_length=1)
    until: int | None = None
    everywhere: bool = False


class GivenScores:
    """The scores of the turns of a partition that are not closed, or not known yet.

    Args:
        has_come: (turn, candidate id) → whether that candidate is in an open turn or in one that waits.
    """

    def __init__(self, has_come: Callable[[TurnKey, str], bool]) -> None:
        self._has_come = has_come
        self._turns: dict[TurnKey, dict[str, CandidateScores]] = {}
        self._early: dict[_Name, int] = {}
        self._due = Deadlines[_Name](self._early.get)

    def __bool__(self) -> bool:
        return bool(self._turns)

    def of(self, turn: TurnKey) -> Mapping[str, CandidateScores]:
        """Return the scores of a turn's candidates, by id."""
        return self._turns.get(turn, {})

    def add(
        self, turn: TurnKey, step: ScoreStep, *, until: int | None, everywhere: bool, effects: Effects
    ) -> None:
        """Take a score.

        Args:
            turn: that the candidate is of.
            step: the score.
            until: how long it waits for its candidate, stream time in ms; None when that is here.
            everywhere: whether it is a copy that went to every partition.
            effects: receives what is to be done.
        """
        name = step.candidate_id
        known = self._turns.get(turn, {}).get(name)
        score = _bounded(step, effects)
        if known is None:
            known = CandidateScores(scores=[score], until=until, everywhere=everywhere)
            self._insert(turn, name, known)
        elif score in known.scores:
            effects.counts["duplicate"] += 1
            return
        elif len(known.scores) >= _SCORES_A_CANDIDATE:
            effects.counts["score_dropped"] += 1
            return
        else:
            known = known.model_copy(update={"scores": [*known.scores, score]})
            self._turns[turn][name] = known
        effects.put(_key(turn, name), known.to_json())
        while len(self._early) > _EARLY_A_PARTITION and (oldest := self._due.next_due(_END)):
            self.expire(oldest[1], effects)

    def restore(self, key: bytes, value: bytes) -> None:
        """Take back a state record."""
        _, run, example, turn, name = decode_key(key)
        self._insert((run, example, turn[1:]), name, CandidateScores.of_service(value))

    def next_due(self, time: int) -> tuple[int, _Name] | None:
        """Return the first score, by (deadline, key), that waits no longer than ``time``."""
        return self._due.next_due(time)

    def expire(self, due: _Name, effects: Effects) -> None:
        """Drop a score that waited long enough, unless its candidate has come."""
        turn, name = due[:3], due[3]
        if self._has_come(turn, name):
            del self._early[due]
            self._due.forget(due)
        else:
            self._drop(turn, name, effects)

    def settle(self, turn: TurnKey, ids: Iterable[str], effects: Effects) -> None:
        """Drop the scores of other candidates than those of a turn, which takes no more."""
        for name in self.of(turn).keys() - set(ids):
            self._drop(turn, name, effects)

    def remove(self, turn: TurnKey, effects: Effects) -> None:
        """Drop the scores of a turn that is closed."""
        for name in self._turns.pop(turn, {}):
            self._forget_early((*turn, name))
            effects.delete(_key(turn, name))

    def _insert(self, turn: TurnKey, name: str, scores: CandidateScores) -> None:
        self._turns.setdefault(turn, {})[name] = scores
        if scores.until is not None:
            self._early[*turn, name] = scores.until
            self._due.note((*turn, name), scores.until)

    def _drop(self, turn: TurnKey, name: str, effects: Effects) -> None:
        scores = self._turns[turn].pop(name)
        if not self._turns[turn]:
            del self._turns[turn]
        self._forget_early((*turn, name))
        effects.delete(_key(turn, name))
        if not scores.everywhere:
            effects.counts["score_without_candidate"] += len(scores.scores)

    def _forget_early(self, name: _Name) -> None:
        if self._early.pop(name, None) is not None:
            self._due.forget(name)


def join(scores: dict[str, CandidateScores], answered: Sequence[AskedMember]) -> None:
    """Put the reward function's scores behind those that people gave in the meantime.

    Args:
        scores: by candidate id; receives those of the answer.
        answered: the members of an answer that came without a score.
    """
    for member in answered:
        if member.score is None:
            continue
        score = GivenScore(score=member.score, source=OF_THE_REWARD_FUNCTION)
        given = scores.get(member.id)
        if given is None:
            scores[member.id] = CandidateScores(scores=[score])
        elif given.scores[0].score != score.score:  # else it is what the request had
            scores[member.id] = given.model_copy(update={"scores": [*given.scores, score]})


def _bounded(step: ScoreStep, effects: Effects) -> GivenScore:
    metadata: Metadata | None = step.raw_metadata or None
    score = GivenScore(score=step.score, source=step.source, metadata=metadata)
    if metadata is None or len(score.to_json()) <= _METADATA_BYTES:
        return score
    effects.counts["score_metadata_dropped"] += 1
    return GivenScore(score=step.score, source=step.source)


def _key(turn: TurnKey, name: str) -> bytes:
    run, example, turn_id = turn
    return encode_key(SCORE, run, example, f"={turn_id}", name)
