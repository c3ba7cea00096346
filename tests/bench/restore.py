"""A pair builder that starts on the changelog of a busy day."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench.context import Context
from tests.bench.deployment import Deployment, deploy
from tests.bench.recovery import start_timed
from tests.bench.results import Figure, at_most
from tests.bench.workload import CANDIDATES_A_TURN, RUN, START_MS
from tunestream.domain.turns.memory import Memory, memory_name
from tunestream.domain.turns.remembering import MEMORY
from tunestream.events.keys import encode_key
from tunestream.events.runs import FORMAT
from tunestream.streams.broker.client import make_producer
from tunestream.streams.changelog.values import wrap
from tunestream.streams.tasks.encoding import BatchSet
from tunestream.topics import TOMBSTONE_MS, changelog_of

__all__ = ["restore"]

_TURNS_A_SECOND = 300
# `turn_memory` of the run, by default.
_MEMORY_SECONDS = 600


async def restore(context: Context) -> list[Figure]:
    """What a day leaves: closed turns that are remembered, and tombstones that are not cleaned yet."""
    live = _TURNS_A_SECOND * context.sized(_MEMORY_SECONDS, _MEMORY_SECONDS // 10)
    gone = _TURNS_A_SECOND * context.sized(TOMBSTONE_MS // 1000, TOMBSTONE_MS // 10_000)
    rounds = [await _round(context, live, gone) for _ in range(1 if context.quick else 3)]
    held = f"{live:,} closed turns and {gone:,} tombstones, in one process"
    return [Figure("restore", "process up to all partitions open", tuple(rounds), "s", at_most(5), held)]


async def _round(context: Context, live: int, gone: int) -> float:
    where = await deploy(context.servers, context.folder)
    for partition in range(where.kafka.partitions):
        share = _changelog(partition, live // where.kafka.partitions, gone // where.kafka.partitions)
        await _write(where, partition, share)
    service = where.service("pair_builder")
    try:
        _, up, ready = await start_timed(service)
        return ready - up
    finally:
        service.stop()


def _changelog(partition: int, live: int, gone: int) -> Iterator[tuple[bytes, bytes | None]]:
    """Return records of the state as they lie at the end: what is forgotten first."""
    for number in range(gone):
        yield _key(f"{partition}-{number}"), None
    memory, now = Memory(), START_MS
    for number in range(gone, gone + live):
        name = f"{partition}-{number}"
        members = {f"{name}-{member}": number for member in range(CANDIDATES_A_TURN)}
        until = now + _MEMORY_SECONDS * 1000
        record = memory.add(memory_name("turn", name, "0"), now, until, members, of_content=True)
        yield _key(name), wrap(record, FORMAT)


def _key(example_id: str) -> bytes:
    return encode_key(MEMORY, RUN, memory_name("turn", example_id, "0").hex())


async def _write(where: Deployment, partition: int, records: Iterator[tuple[bytes, bytes | None]]) -> None:
    topic = where.kafka.topic(changelog_of("pair-builder"))
    async with make_producer(where.kafka) as producer:
        batches = BatchSet(producer)
        for key, value in records:
            batches.append(topic, partition, key, value, [])
        for name, number, batch in batches:
            await (await producer.send_batch(batch, name, partition=number))
