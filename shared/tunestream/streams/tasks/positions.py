"""Where each partition stands: the positions of the client, and those of the tasks behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from aiokafka import TopicPartition

from tunestream.streams.broker.deadlines import words
from tunestream.streams.fetch.group_consumer import GroupConsumer
from tunestream.streams.tasks.in_hand import InHand
from tunestream.streams.tasks.partitions import Partitions
from tunestream.streams.watch.watchdog import Place, Sighting

__all__ = ["Positions"]


class Positions:
    """Compares what the client has given with what the tasks have handled.

    Args:
        partitions: of the member.
        in_hand: their batches.

    Attributes:
        handled: how far each input is handled, as far as that is known.
    """

    def __init__(self, partitions: Partitions, in_hand: InHand) -> None:
        self._partitions = partitions
        self._in_hand = in_hand
        self.handled: dict[TopicPartition, int] = {}

    def put_back(self, consumer: GroupConsumer, place: TopicPartition | None) -> None:
        """Put back what a failed poll has moved: each partition to the position of its task.

        A task with a batch in hand is behind its records; its partition is paused, and it goes on after them.

        Args:
            consumer: the group's.
            place: the partition that was polled, None for all of them.
        """
        assigned = consumer.positions()
        for task in self._partitions.tasks.values():
            if task in self._in_hand:
                continue
            for where, position in task.positions.items():
                if place in (None, where) and assigned.get(where, position) != position:
                    consumer.seek(where, position)

    def note_handled(self, consumer: GroupConsumer) -> None:
        """Note how far each input is handled; what is not known now stays as it was."""
        read = consumer.positions()
        for task in self._partitions.tasks.values():
            # Behind the last record there may be ends of transactions, which the client has passed.
            idle = self._partitions.is_current(task) and task not in self._in_hand
            for place, position in task.positions.items():
                passed = read.get(place) if idle else None
                self.handled[place] = max(position, passed or 0)

    def forget(self, numbers: Iterable[int]) -> None:
        """Forget partitions that are given back."""
        gone = set(numbers)
        self.handled = {
            place: offset for place, offset in self.handled.items() if place.partition not in gone
        }

    def sightings(self, consumer: GroupConsumer, waits: Callable[[int], str | None]) -> list[Sighting]:
        """Return the assigned partitions as they are now, without their ends.

        Args:
            consumer: the group's.
            waits: returns what a partition waits for, None for nothing.
        """
        errors = consumer.errors
        return [
            Sighting(
                Place(*place),
                opened=self._partitions.is_open(place.partition),
                position=self._standing_at(place, position),
                stable=None,
                high=None,
                moved=self._has_moved(place),
                waits=waits(place.partition),
                fault=words(errors[place].error) if place in errors else None,
            )
            for place, position in consumer.positions().items()
        ]

    def _has_moved(self, place: TopicPartition) -> bool:
        task = self._partitions.tasks.get(place.partition)
        return task is not None and task.inputs.moved

    def _standing_at(self, place: TopicPartition, position: int | None) -> int | None:
        """Return where a partition stands: the client's position is behind the records that are in hand."""
        task = self._partitions.tasks.get(place.partition)
        return position if task is None or task not in self._in_hand else task.positions.get(place, position)
