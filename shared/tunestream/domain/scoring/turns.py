"""What turns that wait are to those who own them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Protocol, TypeVar

from tunestream.domain.effects import Effects
from tunestream.domain.scoring.asked import Asked
from tunestream.domain.scoring.given import CandidateScores, TurnKey
from tunestream.events.scores import ScoreAnswer
from tunestream.events.trajectories import CloseReason

__all__ = ["NO_SCORES", "Scores", "Turns", "WaitingTurn"]

Scores = Mapping[str, CandidateScores]
NO_SCORES: Final[Scores] = MappingProxyType({})


class WaitingTurn(Protocol):
    """A turn that takes no more candidates."""

    @property
    def config_digest(self) -> str:
        """Of the configuration that it opened with."""

    @property
    def size(self) -> int:
        """Bytes of its candidates' records."""

    @property
    def ids(self) -> list[str]:
        """Of its candidates, in order of arrival."""

    @property
    def unscored(self) -> list[str]:
        """Ids of the candidates that came without a score."""


T = TypeVar("T", bound=WaitingTurn)


class Turns(Protocol[T]):
    """What becomes of turns: their owner does it."""

    def close(
        self, key: TurnKey, turn: T, reason: CloseReason, at: int, scores: Scores, effects: Effects
    ) -> None:
        """Emit the group of a turn that waited, and drop what is kept of it."""

    def ask(self, key: TurnKey, turn: T, at: int, scores: Scores, effects: Effects) -> str:
        """Send the request for a turn's scores, drop the turn, and return the request's id."""

    def rebuild(self, key: TurnKey, asked: Asked, answer: ScoreAnswer) -> T:
        """Make the turn of its answer again, with the scores that its candidates came with."""

    def reopen(self, key: TurnKey) -> T:
        """Take a turn out of the open ones: it was restored, and waits."""
