"""The opening of a task: its state comes back, and where its inputs go on is found."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from tunestream.streams.broker.deadlines import STEP_DEADLINE, deadline
from tunestream.streams.changelog.progress import Progress
from tunestream.streams.changelog.restoring import Snapshot, changelog_end, read_changelog
from tunestream.streams.changelog.values import POSITIONS_KEY, Reached, decode_positions, unwrap
from tunestream.streams.offsets.starts import Starts
from tunestream.streams.tasks.inputs import Inputs
from tunestream.streams.tasks.plan import Plan
from tunestream.streams.tasks.state import Dormant, State
from tunestream.streams.watch import metrics
from tunestream.topics import topic

__all__ = ["Opening", "end_of_changelog"]

log = structlog.get_logger(__name__)
# State values that are taken back between two turns of the event loop: about 20 ms of work.
_AT_ONCE: Final = 1000


class Opening:
    """Steps 2 to 4 of the opening of a task, in this order; :class:`.Task` has all of them.

    Args:
        plan: of the service.
        partition: the partition number.
        inputs: of the task.
        consumer: the group's consumer, which knows the committed offsets.
    """

    def __init__(self, plan: Plan, partition: int, inputs: Inputs, consumer: AIOKafkaConsumer) -> None:
        self._plan = plan
        self._partition = partition
        self._inputs = inputs
        self._consumer = consumer
        self._committed: dict[TopicPartition, int | None] = {}
        self._log = log.bind(service=plan.service, partition=partition)

    async def read_committed(self) -> None:
        """Read the committed offsets of the inputs."""
        async with deadline(STEP_DEADLINE, "reading the committed offsets"):
            self._committed = {
                place: await self._consumer.committed(place) for place in self._inputs.places.values()
            }

    async def is_unchanged(self, dormant: Dormant) -> bool:
        """Return whether nothing moved since this process gave the partition back."""
        for place, offset in self._inputs.offsets(dormant.state.reached).items():
            if self._committed[place] not in (None, offset):
                return False
        return dormant.changelog_end == await end_of_changelog(self._plan, self._partition)

    async def restore(self, state: State, begun: Callable[[Progress], None]) -> None:
        """Bring a new state to what the changelog holds.

        Args:
            state: with a new handler.
            begun: called with the progress whenever a reading begins.
        """
        for name in dict.fromkeys((self._plan.changelog, self._plan.state_topic)):
            if name is not None:
                await self._restore_from(name, state, begun)

    async def _restore_from(self, name: str, state: State, begun: Callable[[Progress], None]) -> None:
        started = time.monotonic()
        snapshot = await read_changelog(self._plan.kafka, name, self._partition, begun)
        await _take_back(snapshot, state)
        self._note_skipped(snapshot.skipped, state)
        metrics.RESTORED.labels(self._plan.service, self._partition).inc(snapshot.read)
        self._log.info(
            "task.restored",
            topic=name,
            live=len(snapshot.values),
            read=snapshot.read,
            seconds=round(time.monotonic() - started, 3),
        )

    def _note_skipped(self, skipped: Mapping[bytes, str], state: State) -> None:
        """Report records that no service can have written: none of them stops the others."""
        state.skipped = skipped
        assert self._plan.changelog is not None
        name = self._plan.kafka.topic(self._plan.changelog)
        for key, reason in skipped.items():
            metrics.TABLE_SKIPPED.labels(name).inc()
            self._log.warning("restore.record_skipped", topic=name, key=repr(key), message=reason)

    async def find_starts(self, reached: Mapping[str, Reached]) -> tuple[dict[str, Reached], Starts]:
        """Return where each input goes on, by catalogue name, and what was found on the way."""
        starts = Starts(self._plan.kafka, self._consumer, self._plan.service)
        found = dict(reached)
        async with deadline(STEP_DEADLINE, "finding where the inputs stand"):
            for full, name in self._inputs.names.items():
                place, known = self._inputs.places[full], reached.get(name)
                start = await starts.find(place, topic(name), self._committed[place], known)
                if known is None or known.offset != start:
                    found[name] = Reached(start)
        return found, starts


async def _take_back(snapshot: Snapshot, state: State) -> None:
    state.logged.update(snapshot.values)
    for number, (key, value) in enumerate(snapshot.values.items()):
        if key == POSITIONS_KEY:
            state.reached = decode_positions(unwrap(value))
        else:
            state.handler.restore(key, unwrap(value))
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)  # heartbeats and the other partitions go on


async def end_of_changelog(plan: Plan, partition: int) -> int | None:
    """Return where a partition of a service's changelog ends as of now; None without a changelog."""
    if plan.changelog is None:
        return None
    return await changelog_end(plan.kafka, plan.kafka.topic(plan.changelog), partition)
