"""What a service is to the runtime: its inputs, its state, and what makes its handlers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aiokafka import TopicPartition

from tunestream.config.settings import KafkaSettings
from tunestream.events.runs import FORMAT, NewerFormat
from tunestream.streams.tasks.handler import Handler
from tunestream.topics import OUTPUTS, KeyRule, changelog_of, dlq_of, topic

__all__ = ["Plan"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What the tasks of a service have in common.

    Attributes:
        service: name, also of the consumer group (after the prefix).
        inputs: catalogue names of the co-partitioned input topics.
        changelog: catalogue name of the topic that the state comes back from, None without state.
        new_handler: makes the handler of a partition number.
        kafka: the broker.
        format: returns what the deployment writes now, a number that :class:`.FormatRecord` explains.
        retired: environment variables that no longer mean anything; one that is set is noted at start.
        keep: stores bytes that fit no topic and returns their URI; it may block. None without an artifact
            store.
        counted: names of what its domain counts, as far as they are known.
    """

    service: str
    inputs: tuple[str, ...]
    changelog: str | None
    new_handler: Callable[[int], Handler]
    kafka: KafkaSettings
    format: Callable[[], int] = lambda: FORMAT
    retired: tuple[str, ...] = ()
    keep: Callable[[bytes], str] | None = None
    counted: tuple[str, ...] = ()

    @property
    def group(self) -> str:
        """The consumer group and the stem of the transactional ids."""
        return self.kafka.topic(self.service)

    @property
    def state_topic(self) -> str | None:
        """Catalogue name of the topic that holds state values and where the inputs stand, None without state.

        It is the changelog, or lies beside one that others read too, which holds events: the trainer's.
        """
        if self.changelog is None or topic(self.changelog).key is KeyRule.STATE:
            return self.changelog
        return changelog_of(self.service)

    @property
    def topics(self) -> tuple[str, ...]:
        """Catalogue names of what its tasks read by partition number, and of all that they write."""
        state = () if self.state_topic is None else (self.state_topic,)
        letters = tuple(map(dlq_of, self.inputs))
        return tuple(dict.fromkeys((*self.inputs, *OUTPUTS[self.service], *state, *letters)))

    def leaves(self) -> bool:
        """Return whether a replica that ends leaves its group, though its place there is static.

        While the release before may take its place that does not read all of its inputs: the client of that
        release would be given what it did not subscribe to, and stop.
        """
        try:
            number = self.format()
        except NewerFormat:
            return False
        return any(topic(name).since > number for name in self.inputs)

    def input_partitions(self, partition: int) -> list[TopicPartition]:
        """Return this partition number of every input."""
        return [TopicPartition(self.kafka.topic(name), partition) for name in self.inputs]
