"""A service small enough to see through: it numbers the records of each run."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
from aiokafka import ConsumerRecord
from prometheus_client import REGISTRY
from typing_extensions import override

from tests.helpers.log import header
from tunestream.config.settings import KafkaSettings, ServiceSettings
from tunestream.domain.effects import Effects, Outbound
from tunestream.events.cloudevents import Envelope
from tunestream.events.registry import type_of
from tunestream.events.ttc import ExampleEnd, Tick
from tunestream.streams.publish import EncodedRecord, EventProducer
from tunestream.streams.runtime.service import build_app
from tunestream.streams.tasks.handler import Handler, Inbound, TaskContext
from tunestream.streams.tasks.plan import Plan

SERVICE = "pair-builder"
CHANGELOG = "pair-builder.changelog"
INPUT = "ttc.candidates"
OUTPUT = "trajectories"
# A record of this example puts a key into the state and deletes it again.
PASSING = "passing"


@dataclass
class Board:
    """What a test sees of the handlers, and how it makes them fail."""

    failing: dict[int, str] = field(default_factory=dict)
    failures: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    restored: list[tuple[int, bytes, bytes]] = field(default_factory=list)
    contexts: dict[int, TaskContext] = field(default_factory=dict)
    handlers: dict[int, Counting] = field(default_factory=dict)
    idle: set[int] = field(default_factory=set)
    held: dict[int, asyncio.Event] = field(default_factory=dict)

    def fail(self, partition: int) -> None:
        if partition in self.failing:
            self.failures[partition] += 1
            raise RuntimeError(self.failing[partition])


class Counting(Handler):
    """Emits `run:1`, `run:2`, ... for the records of a run."""

    def __init__(self, partition: int, board: Board) -> None:
        self.partition = partition
        self.counts: dict[str, int] = defaultdict(int)
        self._board = board

    @override
    def restore(self, key: bytes, value: bytes) -> None:
        self._board.restored.append((self.partition, key, value))
        self.counts[key.decode()] = int(value)

    @override
    async def start(self, context: TaskContext) -> None:
        self._board.contexts[self.partition] = context
        self._board.handlers[self.partition] = self

    @override
    def handle(self, record: Inbound, effects: Effects) -> None:
        body = record.body
        assert isinstance(body, ExampleEnd)
        self.count(body.run_id, effects)
        if body.example_id == PASSING:
            effects.put(b"passing", b"1")
            effects.delete(b"passing")

    def count(self, run: str, effects: Effects) -> None:
        self.counts[run] += 1
        effects.put(run.encode(), b"%d" % self.counts[run])
        name = f"{run}:{self.counts[run]}"
        effects.outbound.append(Outbound(OUTPUT, Tick(run_id=run), name, 0, (run,), partition=self.partition))

    @override
    async def complete(self, effects: Effects) -> None:
        self._board.fail(self.partition)
        if (held := self._board.held.get(self.partition)) is not None:
            await held.wait()

    @override
    def gauges(self) -> dict[str, float]:
        return {"runs": len(self.counts)}

    @override
    def idle_due(self, now: float) -> bool:
        return self.partition not in self._board.idle

    @override
    def on_idle(self, now: float, effects: Effects) -> None:
        self._board.idle.add(self.partition)


def plan(kafka: KafkaSettings, board: Board, *inputs: str) -> Plan:
    return Plan(SERVICE, inputs or (INPUT,), CHANGELOG, lambda number: Counting(number, board), kafka)


@asynccontextmanager
async def running(made: Plan, settings: ServiceSettings | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """Run the service in this process; yields a client of its HTTP side."""
    before = set(REGISTRY._collector_to_names)
    quick = ServiceSettings(retry_min_seconds=0.05, retry_max_seconds=0.2)
    app = build_app(made, settings or quick)
    try:
        async with (
            app.start_lifespan_context(),
            httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://service") as client,
        ):
            yield client
    finally:
        for collector in set(REGISTRY._collector_to_names) - before:
            REGISTRY.unregister(collector)


def example_end(run: str, partition: int, example: str = "e", topic: str = INPUT) -> EncodedRecord:
    body = ExampleEnd(run_id=run, example_id=example)
    envelope = Envelope(id="1", type=type_of(body), source="/tests", time=0)
    return EncodedRecord(topic, b"k", body.to_json(), envelope.to_headers(), partition)


async def send(kafka: KafkaSettings, records: Sequence[EncodedRecord]) -> None:
    async with EventProducer(kafka) as producer:
        for record in records:
            await producer.send(record)


def numbers(records: Sequence[ConsumerRecord], run: str) -> list[int]:
    """Return how the outputs of a run are numbered, in their order."""
    names = [header(record, "ce_id") or "" for record in records]
    return [int(name.split(":")[1]) for name in names if name.split(":")[0] == run]


async def until_answer(
    client: httpx.AsyncClient, path: str, holds: Callable[[httpx.Response], bool]
) -> httpx.Response:
    """Ask a page again and again, and return the answer of which it holds."""
    async with asyncio.timeout(90):
        while not holds(answer := await client.get(path)):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return answer
