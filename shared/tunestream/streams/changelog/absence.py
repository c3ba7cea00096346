"""Whether a follower of a compacted topic was away for so long that it may have missed tombstones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from tunestream.streams.changelog.progress import Progress
from tunestream.topics import TOMBSTONE_MS

__all__ = ["Absence", "Reading"]

# As for a restore: half of the time that tombstones are kept.
_LONGEST_MS: Final = TOMBSTONE_MS // 2


class Reading:
    """What a topic holds, read from its beginning.

    Args:
        ends: where the topic ends as of now.
        topic: its name, with the prefix.

    Attributes:
        progress: of the reading.
    """

    def __init__(self, ends: Mapping[TopicPartition, int], topic: str) -> None:
        self.progress = Progress(topic)
        self._ends = ends
        self._seen: set[bytes] = set()

    def note(self, key: bytes) -> None:
        """Note a key that came."""
        self._seen.add(key)

    def gone(
        self, keys: AbstractSet[bytes], positions: Mapping[TopicPartition, int]
    ) -> AbstractSet[bytes] | None:
        """Return which of the keys the topic does not hold any more; None before its end was reached."""
        if any(positions[place] < end for place, end in self._ends.items()):
            return None
        return keys - self._seen

    @property
    def was_slow(self) -> bool:
        """Whether it may have missed tombstones, as far as the catalogue defines how long they are kept."""
        return self.progress.age * 1000 > _LONGEST_MS


class Absence:
    """Watches when the broker answered a follower's fetches: twice a second, with or without records.

    A process that was stopped, or cut off from the broker, finds the topic without the tombstones that were
    written and removed meanwhile, and with the values of before in its memory.
    """

    def __init__(self) -> None:
        self._answered: dict[TopicPartition, int] = {}

    def was_long(self, consumer: AIOKafkaConsumer, places: Iterable[TopicPartition]) -> bool:
        """Return whether a fetch was answered after too long a time; the next call begins from now."""
        found = False
        for place in places:
            answered = consumer.last_poll_timestamp(place)
            if answered is None:
                continue
            found |= answered - self._answered.get(place, answered) > _LONGEST_MS
            self._answered[place] = answered
        return found
