"""The inputs of one task: where they lie, which records they take, and where each goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from tunestream.events.views.base import views_of
from tunestream.streams.broker.deadlines import STEP_DEADLINE, deadline
from tunestream.streams.broker.watermarks import Watermarks
from tunestream.streams.changelog.values import Reached
from tunestream.streams.letters.dead_letters import is_for_another
from tunestream.streams.tasks.decoding import broker_time, decode
from tunestream.streams.tasks.handler import Inbound
from tunestream.streams.tasks.plan import Plan
from tunestream.topics import INPUTS, dlq_of, topic

__all__ = ["Inputs", "WentBack"]


class WentBack(Exception):
    """The client gave records before the position, since that was not in the topic any more.

    The topic was truncated or created again. Opening the partition finds out where to go on.
    """

    def __init__(self, place: TopicPartition, position: int, offset: int) -> None:
        super().__init__(
            f"topic {place.topic}: the position was {position}, and the client went back to {offset}: "
            "the topic was truncated or created again"
        )


class Inputs:
    """One partition number of every input of a service. Topics have their names on the broker here.

    Args:
        plan: of the service.
        partition: the partition number.

    Attributes:
        places: topic and partition, by topic.
        names: catalogue names, by topic.
        letter_limits: how many bytes the dead-letter topic takes, by topic.
        positions: of the next record of each input; empty until they are found.
        moved: whether records were handled since.
    """

    def __init__(self, plan: Plan, partition: int) -> None:
        self.places = {place.topic: place for place in plan.input_partitions(partition)}
        self.names = {plan.kafka.topic(name): name for name in plan.inputs}
        self.letter_limits = {
            full: topic(dlq_of(name)).max_message_bytes for full, name in self.names.items()
        }
        self.positions: dict[TopicPartition, int] = {}
        self.moved = False
        self._service = plan.service
        readers = {
            full: {reader for reader, inputs in INPUTS.items() if name in inputs}
            for full, name in self.names.items()
        }
        self._shared = {full: services for full, services in readers.items() if len(services) > 1}
        self._accepted = {full: topic(name).bodies() for full, name in self.names.items()}
        self._views = {full: views_of(topic(name).types) for full, name in self.names.items()}
        self._timed = {full for full, name in self.names.items() if topic(name).log_append_time}
        self._ours = {full for full, name in self.names.items() if not topic(name).from_outside}

    def takes(self, record: ConsumerRecord) -> bool:
        """Return whether a record is meant for this service: a replayed one may be for another."""
        readers = self._shared.get(record.topic)
        return readers is None or not is_for_another(record, self._service, readers)

    def decode(self, record: ConsumerRecord) -> Inbound:
        """Return a record with its body.

        Raises:
            Refused: when its sender is at fault.
        """
        name = record.topic
        return decode(record, self._accepted[name], views=self._views[name], of_services=name in self._ours)

    def offsets(self, reached: Mapping[str, Reached]) -> dict[TopicPartition, int]:
        """Return the offset of the next record of each input that is ``reached``, by catalogue name."""
        return {
            self.places[full]: reached[name].offset for full, name in self.names.items() if name in reached
        }

    def move(self, reached: Mapping[str, Reached]) -> None:
        """Note that a transaction has handled records up to here, by catalogue name."""
        self.moved |= bool(reached)
        self.positions = self.positions | self.offsets(reached)

    def reached(self, records: Sequence[ConsumerRecord]) -> dict[str, Reached]:
        """Return how far each input is handled after the records, by catalogue name."""
        last = {one.topic: one for one in records}
        return {self.names[name]: Reached.after(one.offset, self._time(one)) for name, one in last.items()}

    def _time(self, record: ConsumerRecord) -> int | None:
        """Return when a record was taken; an agent's own time decides nothing."""
        return broker_time(record) if record.topic in self._timed else int(record.timestamp)

    def fresh(self, records: Sequence[ConsumerRecord]) -> list[ConsumerRecord]:
        """Return the records that are still to be handled."""
        positions = {name: self.positions[place] for name, place in self.places.items()}
        return [record for record in records if record.offset >= positions[record.topic]]

    def check_order(self, records: Sequence[ConsumerRecord]) -> None:
        """Make sure that what the client gave follows on what was handled.

        Raises:
            WentBack: when it begins before the position.
        """
        first: dict[str, int] = {}
        for record in records:
            first.setdefault(record.topic, record.offset)
        for name, offset in first.items():
            place = self.places[name]
            if offset < self.positions[place]:
                raise WentBack(place, self.positions[place], offset)

    async def caught_up(self, consumer: AIOKafkaConsumer, watermarks: Watermarks) -> bool:
        """Return whether the consumer has passed every record.

        Its position decides, not ours: it also passes the ends of transactions, which are no records. It does
        not pass a record of an open transaction, whose sender is not silent.
        """
        async with deadline(STEP_DEADLINE, "asking for the ends of the inputs"):
            ends = await watermarks.ends(self.places.values())
            return all([await consumer.position(place) >= end for place, end in ends.items()])
