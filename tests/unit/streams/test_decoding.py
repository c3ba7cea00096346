"""What a service does with the headers and types of records, on each of its input topics."""

from __future__ import annotations

import pytest
from aiokafka import ConsumerRecord

from tools.wire import examples
from tools.wire.examples import Example
from tunestream.domain.effects import Refused
from tunestream.events.registry import event_types, model_of
from tunestream.streams.letters.letter import SOURCES
from tunestream.streams.tasks.decoding import decode
from tunestream.topics import topic

INPUTS = [example for example in examples() if example.topic in SOURCES]


def record_of(example: Example, **changed: str | None) -> ConsumerRecord:
    """Return the record of an example with headers changed, or left out by None."""
    headers = {name: value for name, value in example.headers if name not in changed}
    headers |= {name: value.encode() for name, value in changed.items() if value is not None}
    return ConsumerRecord(
        topic=example.topic,
        partition=0,
        offset=0,
        timestamp=0,
        timestamp_type=1,
        key=example.key,
        value=example.value,
        checksum=None,
        serialized_key_size=0,
        serialized_value_size=0,
        headers=tuple(headers.items()),
    )


def refusal(example: Example, **changed: str | None) -> Refused:
    with pytest.raises(Refused) as caught:
        decode(record_of(example, **changed), topic(example.topic).bodies())
    return caught.value


def newer(ce_type: str) -> str:
    """Return a type of the same family that no topic takes yet."""
    family, _, major = ce_type.rpartition(".v")
    higher = f"{family}.v{int(major) + 1}"
    return newer(higher) if higher in event_types() else higher


def test_every_input_topic_has_examples() -> None:
    assert {example.topic for example in INPUTS} == set(SOURCES)


@pytest.mark.parametrize("example", INPUTS, ids=lambda one: f"{one.topic}/{one.ce_type}")
class TestEveryTypeOfEveryInput:
    """One example of each type, on each topic that carries it."""

    def test_it_is_read(self, example: Example) -> None:
        inbound = decode(record_of(example), topic(example.topic).bodies())
        model = model_of(example.ce_type)
        assert model is not None
        assert isinstance(inbound.body, model)
        assert inbound.envelope.type == example.ce_type

    def test_a_higher_major_version_is_newer(self, example: Example) -> None:
        found = refusal(example, ce_type=newer(example.ce_type))
        assert found.code == "newer_type"
        assert newer(example.ce_type) in found.message
        assert example.ce_type in found.message
        assert "upgrade" in found.message

    def test_a_newer_body_is_not_looked_at(self, example: Example) -> None:
        record = record_of(example, ce_type=newer(example.ce_type))
        record.value = b"not what this release reads"
        with pytest.raises(Refused) as caught:
            decode(record, topic(example.topic).bodies())
        assert caught.value.code == "newer_type"

    @pytest.mark.parametrize(
        "ce_type", ["com.example.ping.v1", "com.example.ping.v2", "ping", "x" * 3_000_000]
    )
    def test_an_unknown_family_is_unknown(self, example: Example, ce_type: str) -> None:
        found = refusal(example, ce_type=ce_type)
        assert found.code == "unknown_type"
        assert ce_type[:50] in found.message
        assert all(name in found.message for name in topic(example.topic).types)

    def test_a_version_that_never_was_is_unknown(self, example: Example) -> None:
        family = example.ce_type.rpartition(".")[0]
        for version in ("", ".v0", ".v01", ".v2beta", ".2"):
            assert refusal(example, ce_type=family + version).code == "unknown_type"

    def test_a_type_of_another_topic_is_unknown_in_any_version(self, example: Example) -> None:
        other = "tunestream.run.v1"
        assert refusal(example, ce_type=other).code == "unknown_type"
        assert refusal(example, ce_type=newer(other)).code == "unknown_type"

    @pytest.mark.parametrize("name", ["ce_type", "ce_specversion", "ce_id", "ce_source"])
    def test_a_missing_header_is_named(self, example: Example, name: str) -> None:
        found = refusal(example, **{name: None})
        assert found.code == "undecodable.header"
        assert name in found.message
