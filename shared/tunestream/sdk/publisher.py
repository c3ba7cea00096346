"""Publishing what an agent does, while it does it."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

from tunestream.events.base import Metadata
from tunestream.events.keys import encode_key
from tunestream.events.scores import TTCScore
from tunestream.events.trajectories import EpisodeItem
from tunestream.events.ttc import PublishedPrompt, TTCEpisode, TTCExampleEnd
from tunestream.sdk.environment import settings_or_environment
from tunestream.sdk.event_records import TOPIC, NativeEvent, nat_record, native_record, score_record
from tunestream.sdk.outflow import outflow
from tunestream.sdk.pieces import WHOLE, in_pieces, refuse_present, turns_go
from tunestream.sdk.turn import Turn, TurnEvent, TurnReceipt
from tunestream.streams.publish import EncodedRecord, EventProducer, EventTooLarge

if TYPE_CHECKING:
    from tunestream.config.settings import KafkaSettings

__all__ = ["TTCPublisher"]

log = logging.getLogger(__name__)


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

    A turn goes as one record, whole or not at all. Two things go as single candidates and an end instead,
    which is not atomic: a turn that is larger than the topic takes, and every turn to a deployment that
    writes a format before 3 (entering reads it from the ``runs`` topic). ``TUNESTREAM_SDK_TURNS=whole`` or
    ``stream`` decides without reading it.

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
        self._settings = settings_or_environment(settings)
        self._producer = EventProducer(self._settings, max_in_flight=max_in_flight)
        self._turns = WHOLE

    async def __aenter__(self) -> Self:
        self._turns = await turns_go(self._settings)
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
        tools: list[dict[str, Any]] | None = None,
        prompt_token_ids: list[int] | None = None,
        added: Callable[[TurnEvent], None] | None = None,
    ) -> Turn:
        """Return a turn to collect candidates in; :meth:`publish_turn` sends it.

        :meth:`turn` does both and is what most agents want; the arguments are the same, but for ``added``,
        which takes each candidate as it is added.
        """
        return Turn(
            run_id,
            example_id,
            uuid4().hex if turn_id is None else turn_id,
            prompt=prompt,
            expected=expected,
            policy_version=policy_version or self.policy_version,
            tools=tools,
            prompt_token_ids=prompt_token_ids,
            old_format=self._turns.old_format,
            added=added,
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
        tools: list[dict[str, Any]] | None = None,
        prompt_token_ids: list[int] | None = None,
        stream: bool = False,
    ) -> AsyncIterator[Turn]:
        """Collect one turn's candidates and publish them when the block is left; see the class.

        A block that raises publishes nothing. With ``stream`` each candidate is sent as it is added, and the
        end when the block is left: a block that raises has sent what it added, and sends no end.

        Args:
            run_id: the run that the candidates are for.
            example_id: what is played or solved, e.g. one game.
            prompt: what the candidates answer, text or chat messages.
            turn_id: unique within the example; by default a new one.
            expected: how many candidates the turn has in all. Give it when several agents publish to one
                turn: it closes with the last candidate, and no end is marked.
            policy_version: the model version that answered, else the publisher's.
            tools: definitions of the tools that the model was offered, as the OpenAI chat API has them.
            prompt_token_ids: the prompt's tokens, by the numbers of the model's own tokenizer.
            stream: send candidates as they are added.
        """
        flow = outflow(self._encoded, self._producer.send) if stream else nullcontext()
        async with flow as added:
            turn = self.begin_turn(
                run_id,
                example_id,
                prompt=prompt,
                turn_id=turn_id,
                expected=expected,
                policy_version=policy_version,
                tools=tools,
                prompt_token_ids=prompt_token_ids,
                added=added,
            )
            yield turn
        await self.publish_turn(turn)

    async def publish_turn(self, turn: Turn) -> TurnReceipt:
        """Publish a turn, or the end of one that streamed; an empty one sends nothing.

        Raises:
            EventTooLarge: when one candidate is larger than the topic takes; nothing is sent then.
        """
        # Every event is encoded before the first is sent: one that is too large holds back the turn.
        for record in self._records(turn):
            await self._producer.send(record)
        key = encode_key(turn.run_id, turn.example_id)
        turn.receipt = TurnReceipt(
            turn.run_id,
            turn.example_id,
            turn.turn_id,
            [candidate.candidate_id for candidate in turn.candidates],
            await self._producer.partition_of(TOPIC, key),
        )
        return turn.receipt

    def _records(self, turn: Turn) -> list[EncodedRecord]:
        if turn.streams:
            return [self._encoded(event) for event in turn.end()]
        if turn.candidates and self._turns.whole:
            try:
                return [self._encoded(turn.whole())]
            except EventTooLarge as error:
                log.warning("turn %s goes as single candidates, which is not atomic: %s", turn.turn_id, error)
        return [self._encoded(event) for event in turn.events()]

    async def score(
        self,
        turn: TurnReceipt,
        candidate_id: str,
        *,
        score: float,
        source: str,
        metadata: Metadata | None = None,
    ) -> TTCScore:
        """Publish the score of a candidate that was published without one.

        The first score of a candidate counts, from any source; later ones are kept beside it.

        Args:
            turn: what publishing the turn gave. Who has the ids alone makes one of them; where its partition
                is not known, a copy of the score goes to every partition.
            candidate_id: of the candidate, as it was published.
            score: the reward, finite; higher is better.
            source: who scored, e.g. a person or a system.
            metadata: anything JSON, kept beside the score.

        Raises:
            pydantic.ValidationError: naming the field that is wrong.
            ValueError: when the receipt names candidates, and this is none of them.
            NotInThisFormat: when the deployment holds no scores that come later.
        """
        refuse_present({"score": True}, self._turns.old_format)
        if turn.candidate_ids and candidate_id not in turn.candidate_ids:
            raise ValueError(f"candidate_id: turn {turn.turn_id} has no candidate {candidate_id!r}")
        event = TTCScore(
            run_id=turn.run_id,
            example_id=turn.example_id,
            turn_id=turn.turn_id,
            candidate_id=candidate_id,
            score=score,
            source=source,
            metadata=metadata,
        )
        record = score_record(event, partition=turn.partition, source=self._source, time=_now())
        await self._producer.send(record)
        return event

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
        """Publish any native event; a turn goes as the class describes.

        Raises:
            EventTooLarge: when it is larger than the topic takes; nothing is sent then.
            NotInThisFormat: when the deployment cannot hold it.
        """
        for record in [self._encoded(each) for each in in_pieces(event, self._turns)]:
            await self._producer.send(record)

    def _encoded(self, event: NativeEvent) -> EncodedRecord:
        return native_record(event, source=self._source, time=_now())

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
