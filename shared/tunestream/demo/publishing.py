"""What agents ask of the policy on a board, and what they publish of its answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from tunestream.demo import game
from tunestream.demo.policy_client import PolicyClient, Sample, draw_distinct
from tunestream.demo.recipes import MIN_SCORE_DIFF, Recipe
from tunestream.events.trajectories import EpisodeItem, EpisodeItemRole
from tunestream.sdk import TTCPublisher

__all__ = ["Decision", "Episodes", "Publishing", "Turns", "publishing_of"]


@dataclass(frozen=True, slots=True)
class Decision:
    """One board of one game, and the model version that answered; None for the base model."""

    run_id: str
    game_id: str
    board: str
    version: str | None


class Publishing(Protocol):
    """How the answers to one board are drawn and published."""

    async def draw(self, client: PolicyClient, model: str, board: str, rng: Random) -> Sequence[Sample]:
        """Return the answers; the first one, a plain sample of the policy, is played."""

    def trajectories(self, board: str, answers: Sequence[Sample]) -> int:
        """Return how many trajectories come of the answers once they are published."""

    async def publish(self, publisher: TTCPublisher, decision: Decision, answers: Sequence[Sample]) -> None:
        """Publish the answers."""

    async def end_game(self, publisher: TTCPublisher, run_id: str, game_id: str) -> None:
        """Close what the game has left open."""


@dataclass(frozen=True, slots=True)
class Turns:
    """Different answers as the candidates of a turn, of which one pair comes: the best with the worst."""

    answers: int

    async def draw(self, client: PolicyClient, model: str, board: str, rng: Random) -> Sequence[Sample]:
        """Draw without replacement, so that every turn has something to compare."""
        distribution = await client.distribution(model, game.prompt(board))
        return [Sample(text) for text in draw_distinct(distribution, self.answers, rng)]

    def trajectories(self, board: str, answers: Sequence[Sample]) -> int:
        """One pair, unless all scores are equal."""
        scores = _scores(board, answers)
        return int(max(scores) - min(scores) >= MIN_SCORE_DIFF)

    async def publish(self, publisher: TTCPublisher, decision: Decision, answers: Sequence[Sample]) -> None:
        """Publish one turn."""
        scores = _scores(decision.board, answers)
        async with publisher.turn(
            decision.run_id,
            decision.game_id,
            prompt=game.prompt(decision.board),
            policy_version=decision.version,
        ) as turn:
            for index, (answer, score) in enumerate(zip(answers, scores, strict=True)):
                turn.candidate(answer.text, score=score, index=index)

    async def end_game(self, publisher: TTCPublisher, run_id: str, game_id: str) -> None:
        """Publish that the game has no more turns."""
        await publisher.end_example(run_id, game_id)


@dataclass(frozen=True, slots=True)
class Episodes:
    """Plain samples, each one a finished episode: the board, the answer with its log-probability, the score.

    A board of a game is an example, so that its episodes are compared with one another.
    """

    answers: int

    async def draw(self, client: PolicyClient, model: str, board: str, rng: Random) -> Sequence[Sample]:
        """Have the server sample, repeats included: it is their frequency that is learnt from."""
        del rng  # the server's own
        return await client.sample(model, game.prompt(board), self.answers)

    def trajectories(self, board: str, answers: Sequence[Sample]) -> int:
        """Each answer is one, on every board."""
        del board
        return len(answers)

    async def publish(self, publisher: TTCPublisher, decision: Decision, answers: Sequence[Sample]) -> None:
        """Publish the episodes of one group."""
        example = f"{decision.game_id}/{decision.board}"
        asked = EpisodeItem(role=EpisodeItemRole.USER, content=game.prompt(decision.board))
        await asyncio.gather(
            *(
                publisher.episode(
                    decision.run_id,
                    example,
                    [asked, _reply(answer)],
                    reward=game.reward(decision.board, answer.text),
                    episode_id=str(number),
                    policy_version=decision.version,
                )
                for number, answer in enumerate(answers)
            )
        )

    async def end_game(self, publisher: TTCPublisher, run_id: str, game_id: str) -> None:
        """Nothing is open: a group closes with its last episode."""


def publishing_of(recipe: Recipe) -> Publishing:
    """Return how agents publish under a recipe."""
    return Episodes(recipe.answers) if recipe.plays_episodes else Turns(recipe.answers)


def _scores(board: str, answers: Sequence[Sample]) -> list[float]:
    return [game.reward(board, answer.text) for answer in answers]


def _reply(answer: Sample) -> EpisodeItem:
    return EpisodeItem(role=EpisodeItemRole.ASSISTANT, content=answer.text, logprobs=answer.logprobs)
