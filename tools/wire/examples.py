"""One normative example for each topic and type.

They are not written by hand where the code can make them: what agents send comes from the SDK, what the
services send from their domain cores. One story runs through all of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tools.wire import story, turn_story
from tunestream.domain.effects import Outbound
from tunestream.events.cloudevents import Envelope
from tunestream.events.keys import encode_key
from tunestream.events.registry import type_of
from tunestream.streams.letters.dead_letters import dead_letter_headers
from tunestream.streams.publish import EncodedRecord
from tunestream.streams.tasks.encoding import partition_for
from tunestream.topics import DEFAULT_PARTITIONS, dlq_of, topic

__all__ = ["Example", "examples"]

# Where the story's records lie in their topics; any numbers would do.
_PARTITION: Final = 2
_OFFSET: Final = 1041


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One record, as it is on the wire.

    Attributes:
        topic: catalogue name, without prefix.
        key: encoded.
        headers: in order.
        value: the body's bytes.
        partition: where it lies in a topic of four partitions; None where something else than the key
            decides (in ``ttc.candidates`` the event's, a tick its clock's, a dead letter its record's).
    """

    topic: str
    key: bytes
    headers: Sequence[tuple[str, bytes | None]]
    value: bytes
    partition: int | None

    @property
    def ce_type(self) -> str:
        """The type of the body."""
        return Envelope.from_headers(self.headers).type

    def document(self) -> dict[str, Any]:
        """Return the example as JSON values; compact UTF-8 JSON of ``body`` is the record's value."""
        return {
            "topic": self.topic,
            "key": self.key.decode(),
            "partition": self.partition,
            "headers": {name: (value or b"").decode() for name, value in self.headers},
            "body": json.loads(self.value),
        }


@dataclass(frozen=True, slots=True)
class _Record:
    """What dead letters need to know of a consumed record."""

    topic: str
    partition: int
    offset: int
    headers: Sequence[tuple[str, bytes | None]]


def examples() -> list[Example]:
    """Return the examples in the order of the catalogue."""
    found = [_sent(record) for record in (*story.published(), *turn_story.published_turn())]
    for service, outputs in (
        ("ttc-collector", [*story.collected(), *turn_story.collected_turn()]),
        ("pair-builder", [*turn_story.asked(), *turn_story.grouped(), *story.paired()]),
        ("reward", turn_story.answered()),
        ("curriculum-gate", story.batched()),
    ):
        found += [_emitted(service, output) for output in outputs]
    found.append(_sent(story.commanded()))
    found += [_emitted("trainer", output) for output in story.trained()]
    found += [_sent(record) for record in story.applied()]
    found.append(_sent(story.marked()))
    return [*found, *_dead_letters(found)]


def _sent(record: EncodedRecord) -> Example:
    assert record.key is not None
    assert record.value is not None
    partition = partition_for(record.key, DEFAULT_PARTITIONS) if record.partition is None else None
    return Example(
        topic=record.topic, key=record.key, headers=record.headers, value=record.value, partition=partition
    )


def _emitted(service: str, output: Outbound) -> Example:
    envelope = Envelope(
        id=output.id,
        type=output.type,
        source=f"/tunestream/{service}",
        time=output.time,
        extensions=output.extensions,
    )
    return Example(
        topic=output.topic,
        key=encode_key(*output.key),
        headers=envelope.to_headers(),
        value=output.encoded(),
        partition=_partition(output),
    )


def _partition(output: Outbound) -> int | None:
    if output.partition is not None:
        return None
    parts = output.key[:1] if topic(output.topic).by_run else output.key
    return partition_for(encode_key(*parts), DEFAULT_PARTITIONS)


def _dead_letters(found: Iterable[Example]) -> list[Example]:
    """Return what is kept of each refusal of the story."""
    by_place = {(example.topic, example.ce_type): example for example in found}
    refusals = story.refusals()
    return [_dead_letter(by_place[one.topic, type_of(one.body)], one) for one in refusals]


def _dead_letter(example: Example, refusal: story.Refusal) -> Example:
    record = _Record(example.topic, _PARTITION, _OFFSET, example.headers)
    return Example(
        topic=dlq_of(example.topic),
        key=encode_key(*refusal.key) if refusal.key else example.key,
        headers=dead_letter_headers(record, refusal.why, refusal.service),
        value=example.value,
        partition=None,
    )
