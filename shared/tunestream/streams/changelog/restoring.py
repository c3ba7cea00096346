"""Reading a changelog partition back: bounded by progress, and never from what is too old.

The cleaner removes a tombstone once it is ``delete.retention.ms`` old, and by then the value before it is
gone as well. A reader that is under way for longer may have read the value and miss its tombstone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import ClusterAuthorizationFailedError, TopicAuthorizationFailedError

from tunestream.config.settings import KafkaSettings
from tunestream.streams.broker.client import make_consumer
from tunestream.streams.broker.deadlines import deadline
from tunestream.streams.changelog.progress import Progress
from tunestream.streams.changelog.tombstones import keep_tombstones, tombstone_seconds
from tunestream.streams.changelog.unreadable import unknown_type, why_unreadable
from tunestream.topics import TOMBSTONE_MS
from tunestream.topics import topic as catalogued

__all__ = ["Snapshot", "changelog_end", "is_too_old", "make_room", "read_changelog"]

log = structlog.get_logger(__name__)
_POLL_MS: Final = 200
# A broker that gives nothing for so long is not answering; the partition is then opened again.
STALL_SECONDS: Final = 60.0
# A restore may take half as long as tombstones live; with this factor a second one of the same length
# takes half of that half.
_ROOM: Final = 4
_FORBIDDEN: Final = (TopicAuthorizationFailedError, ClusterAuthorizationFailedError)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The live records of a changelog partition.

    Attributes:
        values: latest value by key, without tombstones.
        end: offset after the last record read.
        read: records read, superseded ones included.
        skipped: why, by the keys whose latest record is none of a service; they keep what they had.
    """

    values: dict[bytes, bytes]
    end: int
    read: int
    skipped: dict[bytes, str] = field(default_factory=dict)


def _unseen(_progress: Progress) -> None:
    """Nobody looks at the progress."""


async def read_changelog(
    settings: KafkaSettings, name: str, partition: int, begun: Callable[[Progress], None] = _unseen
) -> Snapshot:
    """Read a changelog partition to its end as of now.

    Call it only after the partition's writer was fenced: its transactions have ended then. One whose end is
    still to come, or was lost by the broker, is waited for: what it holds may be committed. What took
    longer than half of the time that tombstones are kept is dropped, and read once more; when that would
    take too long as well, the topic's tombstones are first kept longer.

    Args:
        settings: the broker.
        name: catalogue name of the changelog.
        partition: of the changelog.
        begun: called with the progress whenever a reading begins.

    Raises:
        TimeoutError: when nothing came for a minute, or the second reading was too old as well.
    """
    progress = Progress(settings.topic(name))
    begun(progress)
    snapshot = await _read(settings, name, partition, progress)
    if not snapshot.read or not await is_too_old(settings, progress):
        return snapshot
    log.warning("restore.too_old", partition=partition, progress=str(progress), action="reading it again")
    await make_room(settings, progress)
    again = Progress(settings.topic(name))
    begun(again)
    snapshot = await _read(settings, name, partition, again)
    if await is_too_old(settings, again):
        raise TimeoutError(
            f"{again}: this is longer than half of the topic's delete.retention.ms, for the second time; "
            f"raise delete.retention.ms of {again.topic}"
        )
    return snapshot


async def is_too_old(settings: KafkaSettings, progress: Progress) -> bool:
    """Return whether a reading may have missed a tombstone: it took longer than half of their time."""
    return progress.age > await _kept(settings, progress.topic) / 2


async def _kept(settings: KafkaSettings, topic: str) -> float:
    try:
        return await tombstone_seconds(settings, topic)
    except _FORBIDDEN:  # then it is believed to be as the catalogue wants it
        return TOMBSTONE_MS / 1000


async def make_room(settings: KafkaSettings, progress: Progress) -> None:
    """Have tombstones kept long enough for a reading that takes as long again."""
    kept = await _kept(settings, progress.topic)
    if progress.took <= kept / 2:  # the machine slept: its calendar went on, and a second reading is faster
        return
    wanted = _ROOM * progress.took
    log.warning(
        "restore.retention_raised",
        topic=progress.topic,
        delete_retention_seconds=round(wanted, 3),
        before_seconds=kept,
        reason=f"a restore took {progress.took:.1f} s, longer than half of what tombstones are kept",
    )
    try:
        await keep_tombstones(settings, progress.topic, wanted)
    except _FORBIDDEN as error:
        log.warning("restore.retention_not_raised", topic=progress.topic, reason=repr(error))


async def _read(settings: KafkaSettings, name: str, partition: int, progress: Progress) -> Snapshot:
    place = TopicPartition(progress.topic, partition)
    values: dict[bytes, bytes] = {}
    foreign: set[bytes] = set()
    skipped: dict[bytes, str] = {}
    read = 0
    end = await changelog_end(settings, progress.topic, partition)
    async with make_consumer(settings, undecodable=bool(catalogued(name).types)) as consumer:
        consumer.assign([place])
        async with deadline(STALL_SECONDS, f"asking for the beginning of {place.topic}"):
            first = (await consumer.beginning_offsets([place]))[place]
        progress.total = end - first
        consumer.seek(place, first)
        while first < end and (position := await consumer.position(place)) < end:
            progress.reach(position - first)
            if progress.silent > STALL_SECONDS:
                raise TimeoutError(
                    f"{progress}: nothing came for {STALL_SECONDS:.0f} s after offset {position}; "
                    "if it stays so, a transaction there has no end: kafka-transactions.sh find-hanging"
                )
            for record in (await consumer.getmany(place, timeout_ms=_POLL_MS)).get(place, ()):
                read += 1
                if record.value is None:
                    values.pop(record.key, None)
                elif (unknown := unknown_type(name, record)) is not None:
                    foreign.add(unknown)
                elif (reason := why_unreadable(name, record)) is not None:
                    skipped[record.key or b""] = reason
                else:
                    values[record.key] = record.value
                    skipped.pop(record.key, None)
    progress.reach(progress.total)
    if foreign:
        types = sorted(found.decode(errors="replace") for found in foreign)
        log.info("restore.types_skipped", topic=progress.topic, partition=partition, types=types)
    return Snapshot(values, end, read, skipped)


async def changelog_end(settings: KafkaSettings, topic: str, partition: int) -> int:
    """Return the end offset of a changelog partition as of now, open transactions included.

    Args:
        settings: the broker.
        topic: the changelog's name, with the prefix.
        partition: of the changelog.
    """
    place = TopicPartition(topic, partition)
    async with (
        make_consumer(settings, isolation_level="read_uncommitted") as consumer,
        deadline(STALL_SECONDS, f"asking for the end of {topic}"),
    ):
        ends: dict[TopicPartition, int] = await consumer.end_offsets([place])
        return ends[place]
