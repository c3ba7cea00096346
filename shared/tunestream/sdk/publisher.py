"""Publishing what an agent does, while it does it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self
from uuid import uuid4

from tunestream.events.base import Metadata
from tunestream.events.trajectories import EpisodeItem
from tunestream.events.ttc import PublishedPrompt, TTCEpisode, TTCExampleEnd
from tunestream.sdk.environment import settings_or_environment
from tunestream.sdk.event_records import NativeEvent, nat_record, native_record
from tunestream.sdk.turn import Turn
from tunestream.streams.publish import EventProducer

if TYPE_CHECKING:
    from tunestream.config.settings import KafkaSettings

__all__ = ["TTCPublisher"]


class TTCPublisher:
    """Publishes TTC events: for one turn several candidate responses to a prompt, each with a score.

    Example::

        async with TTCPublisher(policy_version="v7") as publisher:
            async with publisher.turn("tic-tac-toe", "game-1", prompt=board) as turn:
                for move in moves:
                    turn.candidate(move, score=value(move))
            await publisher.end_example("tic-tac-toe", "game-1")

    Events go through a bounded buffer in batches; publishing waits when it is full. An event that was not
    delivered is raised as :class:`tunestream.streams.publish.DeliveryError` by the next call, by
    :meth:`flush` and at the end, which flushes. The producer is idempotent: a retry never doubles an event.
    Entering it raises :class:`tunestream.sdk.BrokerUnavailable` within 20 s when there is no broker.

    Args:
        settings: the broker; by default from ``KAFKA_BOOTSTRAP_SERVERS`` and ``TUNESTREAM_KAFKA_*``.
        policy_version: the model version that answers, stamped on every candidate and episode that names
            none; assign the attribute when the served version changes.
        source: this agent, as a CloudEvents source.
        max_in_flight: events in the buffer before publishing waits.
    """

    def __init__(
        self,
        settings: KafkaSettings | None = None,
        *,
        policy_version: str | None = None,
        source: str = "/agent",
        max_in_flight: int = 5000,
    ) -> None:
        self.policy_version = policy_version
        self._source = source
        self._producer = EventProducer(settings_or_environment(settings), max_in_flight=max_in_flight)

    async def __aenter__(self) -> Self:
        await self._producer.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._producer.__aexit__(kind, error, trace)

    def begin_turn(
        self,
        run_id: str,
        example_id: str,
        *,
        prompt: PublishedPrompt,
        turn_id: str | None = None,
        expected: int | None = None,
        policy_version: str | None = None,
    ) -> Turn:
        """Return a turn to collect candidates in; :meth:`publish_turn` sends it.

        :meth:`turn` does both and is what most agents want.
        """
        return Turn(
            run_id,
            example_id,
            uuid4().hex if turn_id is None else turn_id,
            prompt=prompt,
            expected=expected,
            policy_version=policy_version or self.policy_version,
        )

    @asynccontextmanager
    async def turn(
        self,
        run_id: str,
        example_id: str,
        *,
        prompt: PublishedPrompt,
        turn_id: str | None = None,
        expected: int | None = None,
        policy_version: str | None = None,
    ) -> AsyncIterator[Turn]:
        """Collect one turn's candidates and publish them with the turn's end when the block is left.

        A block that raises publishes nothing: a turn is published whole or not at all.

        Args:
            run_id: the run that the candidates are for.
            example_id: what is played or solved, e.g. one game.
            prompt: what the candidates answer, text or chat messages.
            turn_id: unique within the example; by default a new one.
            expected: how many candidates the turn has in all. Give it when several agents publish to one
                turn: it closes with the last candidate, and no end is marked.
            policy_version: the model version that answered, else the publisher's.
        """
        turn = self.begin_turn(
            run_id,
            example_id,
            prompt=prompt,
            turn_id=turn_id,
            expected=expected,
            policy_version=policy_version,
        )
        yield turn
        await self.publish_turn(turn)

    async def publish_turn(self, turn: Turn) -> None:
        """Publish a turn's candidates and its end."""
        now = _now()
        # Every event is encoded before the first is sent: one that is too large holds back the turn.
        records = [native_record(event, source=self._source, time=now) for event in turn.events()]
        for record in records:
            await self._producer.send(record)

    async def end_example(self, run_id: str, example_id: str) -> None:
        """Publish that no more candidates come for the turns of an example that are open now."""
        await self.publish(TTCExampleEnd(run_id=run_id, example_id=example_id))

    async def episode(
        self,
        run_id: str,
        example_id: str,
        items: Iterable[EpisodeItem],
        *,
        reward: float,
        episode_id: str | None = None,
        policy_version: str | None = None,
        metadata: Metadata | None = None,
    ) -> TTCEpisode:
        """Publish a finished episode, for runs that learn from groups of episodes.

        Args:
            run_id: the run that it is for.
            example_id: the example; its episodes are grouped.
            items: the messages in order; an assistant's needs its token log-probabilities.
            reward: of the whole episode, finite.
            episode_id: unique within the example; by default a new one.
            policy_version: the model version that played, else the publisher's.
            metadata: anything JSON.

        Raises:
            pydantic.ValidationError: naming the field that is wrong.
        """
        event = TTCEpisode(
            run_id=run_id,
            example_id=example_id,
            episode_id=uuid4().hex if episode_id is None else episode_id,
            items=list(items),
            reward=reward,
            policy_version=policy_version or self.policy_version,
            metadata=metadata,
        )
        await self.publish(event)
        return event

    async def publish(self, event: NativeEvent) -> None:
        """Publish any native event."""
        await self._producer.send(native_record(event, source=self._source, time=_now()))

    async def nat_step(self, run_id: str, example_id: str, step: bytes) -> None:
        """Publish an IntermediateStep of the NeMo Agent Toolkit.

        Args:
            run_id: the run that it is for.
            example_id: the example that it belongs to, e.g. the workflow's input number.
            step: its JSON, as ``step.model_dump_json().encode()`` gives it; sent unchanged.

        Raises:
            pydantic.ValidationError: when it is no IntermediateStep.
        """
        await self._producer.send(nat_record(run_id, example_id, step, source=self._source, time=_now()))

    async def flush(self) -> None:
        """Wait until everything published so far is delivered.

        Raises:
            DeliveryError: when events were not delivered.
        """
        await self._producer.flush()


def _now() -> int:
    return time.time_ns() // 1_000_000
