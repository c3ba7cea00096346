"""The transactions of one task: outputs, state changes, dead letters and offsets, all or none of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from aiokafka import AIOKafkaProducer, ConsumerRecord, TopicPartition

from tunestream.domain.effects import Effects, Refused
from tunestream.streams.broker.client import MissingPartition, MissingTopic, make_transactional_producer
from tunestream.streams.broker.deadlines import STEP_DEADLINE, deadline
from tunestream.streams.changelog.values import (
    POSITIONS_KEY,
    VERSIONED,
    Reached,
    encode_positions,
)
from tunestream.streams.letters.dead_letters import Letter, dead_letter, shortened
from tunestream.streams.tasks.encoding import BatchSet, TransactionWriter
from tunestream.streams.tasks.inputs import Inputs
from tunestream.streams.tasks.plan import Plan
from tunestream.streams.tasks.state import State
from tunestream.streams.watch import metrics

__all__ = ["Transaction", "Transactions"]


@dataclass(slots=True)
class Transaction:
    """What one transaction will write.

    Attributes:
        batches: records, encoded.
        effects: of the records that were handled, as far as they are not in the batches.
        refused: records that become dead letters, and why.
        reached: how far it handles each input, by catalogue name; empty for an internal event.
    """

    batches: BatchSet
    effects: Effects = field(default_factory=Effects)
    refused: list[tuple[ConsumerRecord, Refused]] = field(default_factory=list)
    reached: dict[str, Reached] = field(default_factory=dict)


class Transactions:
    """Writes the transactions of one task, one after the other.

    Starting it fences a predecessor and ends its open transaction.

    Args:
        plan: of the service.
        partition: the partition number.
        inputs: of the task.
    """

    def __init__(self, plan: Plan, partition: int, inputs: Inputs) -> None:
        self._plan = plan
        self._partition = partition
        self._inputs = inputs
        self._producer = make_transactional_producer(plan.kafka, f"{plan.group}-{partition}")
        self._writer: TransactionWriter

    async def start(self) -> None:
        """Start the transactional producer.

        Raises:
            MissingTopic: when one that the task writes does not exist.
            MissingPartition: when the state has no partition of this number.
            KafkaError: when the broker refuses; TimeoutError: when it does not answer.
        """
        async with deadline(STEP_DEADLINE, "starting the transactional producer"):
            await self._producer.start()
            self._writer = await _new_writer(self._plan, self._partition, self._producer)

    async def stop(self) -> None:
        """Stop the producer."""
        await self._producer.stop()

    @property
    def partitions(self) -> int:
        """How many partitions the first input has."""
        return self._writer.partitions_of(self._plan.inputs[0])

    def new(self) -> Transaction:
        """Return an empty transaction."""
        return Transaction(BatchSet(self._producer))

    def encode_outputs(self, transaction: Transaction) -> None:
        """Encode the output records of the effects so far, and drop them."""
        self._writer.outbound(transaction.batches, transaction.effects)

    async def commit(self, transaction: Transaction, state: State) -> None:
        """Write a transaction, and have ``state`` hold what the changelog and the inputs then are."""
        batches, effects, came = transaction.batches, transaction.effects, transaction.reached
        number = self._plan.format()
        reached = state.reached | came
        if came and number >= VERSIONED and self._plan.state_topic is not None:
            effects.put(POSITIONS_KEY, encode_positions(reached))
        self._writer.changes(batches, effects, number, state.logged)
        for record, refusal in transaction.refused:
            self._writer.dead_letter(batches, record.topic, await self._letter(record, refusal))
        offsets = self._inputs.offsets(came)
        if batches or offsets:
            started = time.monotonic()
            await self._write(batches, offsets)
            metrics.TRANSACTION_SECONDS.labels(self._plan.service).observe(time.monotonic() - started)
        state.note_logged(effects.changes)
        state.reached = reached
        self._count(transaction)

    def _count(self, transaction: Transaction) -> None:
        for name, amount in transaction.effects.counts.items():
            metrics.DOMAIN_EVENTS.labels(self._plan.service, name).inc(amount)
        for _, refusal in transaction.refused:
            metrics.DEAD_LETTERS.labels(self._plan.service, refusal.code).inc()

    async def _letter(self, record: ConsumerRecord, refusal: Refused) -> Letter:
        """Return the dead letter of a record, at most as large as its topic takes."""
        letter = dead_letter(record, refusal, self._plan.service)
        limit = self._inputs.letter_limits[record.topic]
        if letter.size <= limit:
            return letter
        keep = self._plan.keep
        uri = None if keep is None else await asyncio.to_thread(keep, letter.value or b"")
        return shortened(letter, limit, uri)

    async def _write(self, batches: BatchSet, offsets: Mapping[TopicPartition, int]) -> None:
        async with deadline(STEP_DEADLINE, "a transaction"):
            await self._producer.begin_transaction()
            deliveries = [
                await self._producer.send_batch(batch, name, partition=partition)
                for name, partition, batch in batches
            ]
            # Each delivery is awaited: a failed batch does not make the commit fail. The offsets come
            # after them: adding them meanwhile makes the broker refuse the batches for 100 ms.
            await asyncio.gather(*deliveries)
            if offsets:
                await self._producer.send_offsets_to_transaction(offsets, self._plan.group)
            await self._producer.commit_transaction()


async def _new_writer(plan: Plan, partition: int, producer: AIOKafkaProducer) -> TransactionWriter:
    counts: dict[str, int] = {}
    cluster = await producer.client.fetch_all_metadata()
    for name in plan.topics:
        known = cluster.partitions_for_topic(plan.kafka.topic(name))
        if not known:
            raise MissingTopic(plan.kafka.topic(name))
        counts[name] = len(known)
    state = plan.state_topic
    if state is not None and partition >= counts[state]:
        raise MissingPartition(plan.kafka.topic(state), partition)
    return TransactionWriter(plan.service, partition, plan.kafka.topic_prefix, counts, plan.state_topic)
