"""Agents as they are: each with a clock and a codec of its own, and some who end nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import count
from typing import Final

from aiokafka import AIOKafkaProducer

from tests.helpers.later_scores import LATER_TURNS, later_events
from tests.helpers.raw_batches import send_batch
from tests.helpers.workload import CANDIDATES, Event, blocks
from tunestream.config.settings import KafkaSettings
from tunestream.events.cloudevents import Envelope, format_time
from tunestream.events.registry import type_of
from tunestream.events.ttc import TTCCandidate
from tunestream.streams.broker.client import make_producer
from tunestream.streams.broker.metadata import partition_count
from tunestream.streams.publish import EncodedRecord, event_record
from tunestream.streams.tasks.encoding import partition_for

__all__ = ["AGENTS", "QUIET", "Agent", "more_turns", "publish_by_agents", "quiet_turns"]

QUIET: Final = "quiet"
"""The run whose turns nobody ends: one in each block of the workload."""
Clock = Callable[[], str | None]


def _off_by(seconds: int) -> Clock:
    return lambda: format_time(int((time.time() + seconds) * 1000))


@dataclass(frozen=True)
class Agent:
    """What one agent does in its own way.

    Attributes:
        codec: of its batches; None leaves them as they are.
        clock: its ``ce_time``; None leaves the header out.
    """

    codec: str | None
    clock: Clock


AGENTS: Final = (
    Agent(None, _off_by(0)),
    Agent("gzip", _off_by(-3600)),
    Agent("snappy", _off_by(-600)),
    Agent("lz4", _off_by(600)),
    Agent("zstd", lambda: None),
    Agent("lz4", lambda: "9999-12-31T23:59:59Z"),
    Agent(None, lambda: "1970-01-01T00:00:00Z"),
)


def quiet_turns(turns: int) -> int:
    """Return how many turns of the quiet run come with so many of the others."""
    return sum(1 for _ in blocks(turns))


def more_turns(turns: int) -> int:
    """Return how many turns of other runs come with so many of the workload's."""
    return quiet_turns(turns) * (1 + LATER_TURNS)


async def publish_by_agents(
    settings: KafkaSettings, turns: int, *, times: int = 1, pause: float = 0.0, chunk: int = 60
) -> int:
    """Publish the workload with quiet turns and turns that are scored later, every event `times` times.

    An example is published by one agent at a time.

    Returns:
        How many records were sent that can be decoded; one more with each quiet turn cannot.
    """
    sent = 0
    async with AsyncExitStack() as stack:
        fleet = [await stack.enter_async_context(_open(settings, agent)) for agent in AGENTS]
        plain = await stack.enter_async_context(make_producer(settings))
        places = await partition_count(settings, settings.topic("ttc.events"))
        for number, block in enumerate(blocks(turns)):
            before, after = later_events(number)
            for copy in range(times):
                await _send_whole(settings, plain, places, number, copy)
                sent += CANDIDATES
                for event in (*before, *block, *after):
                    await _send(settings, fleet, event, copy)
                    sent += 1
                    if pause and sent % chunk == 0:
                        await asyncio.sleep(pause)
                await asyncio.gather(*(producer.flush() for producer in fleet))
    return sent


def _open(settings: KafkaSettings, agent: Agent) -> AIOKafkaProducer:
    return make_producer(settings, compression_type=agent.codec)


def _record(event: Event, agent: Agent) -> EncodedRecord:
    envelope = Envelope(id=str(next(_IDS)), type=type_of(event), source="/agent")
    record = event_record("ttc.events", (event.run_id, event.example_id), event.to_json(), envelope)
    told = agent.clock()
    clock = [] if told is None else [("ce_time", told.encode())]
    return EncodedRecord(record.topic, record.key, record.value, [*record.headers, *clock])


_IDS: Final[Iterator[int]] = count()


async def _send(settings: KafkaSettings, fleet: Sequence[AIOKafkaProducer], event: Event, copy: int) -> None:
    agent = (int(event.example_id.rpartition("-")[2]) + copy) % len(fleet)
    record = _record(event, AGENTS[agent])
    await fleet[agent].send(settings.topic(record.topic), record.value, record.key, headers=record.headers)


async def _send_whole(
    settings: KafkaSettings, producer: AIOKafkaProducer, places: int, number: int, copy: int
) -> None:
    """Send a turn of the quiet run in one batch: no outage comes between its candidates.

    With the first copy comes a record that no client can decode: a header's name is not UTF-8.
    """
    agent = AGENTS[(number + copy) % len(AGENTS)]
    records = [_record(_quiet_candidate(number, index), agent) for index in range(CANDIDATES)]
    key = records[0].key
    assert key is not None
    batch, bad = (records, []) if copy else ([records[0], *records], [1])
    topic = settings.topic("ttc.events")
    await send_batch(producer, topic, partition_for(key, places), batch, bad, agent.codec or "none")


def _quiet_candidate(number: int, index: int) -> TTCCandidate:
    return TTCCandidate(
        run_id=QUIET,
        example_id=f"example-{number}",
        turn_id="turn",
        candidate_id=str(index),
        candidate_index=index,
        prompt=f"prompt {number}",
        response=f"response {index}",
        score=float(index),
    )
