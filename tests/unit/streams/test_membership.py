"""A partition number opens only when every input of it was assigned."""

from __future__ import annotations

from aiokafka import TopicPartition

from tunestream.streams.tasks.membership import Membership


def places(topic: str, *numbers: int) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for number in numbers]


def test_a_number_is_whole_with_all_its_inputs() -> None:
    membership = Membership(["a", "b"])
    membership.assigned([*places("a", 0, 1), *places("b", 1, 2)])
    assert membership.whole == {1}
    first, second = membership.reasons()
    assert first.startswith("partition 0: waits for b,")
    assert second.startswith("partition 2: waits for a,")


def test_nothing_is_missing_of_what_was_revoked() -> None:
    membership = Membership(["a", "b"])
    membership.assigned(places("a", 0))
    membership.revoked()
    assert membership.whole == set()
    assert membership.reasons() == []


def test_a_member_without_partitions_is_as_it_should_be() -> None:
    membership = Membership(["a", "b"])
    membership.assigned([])
    assert membership.whole == set()
    assert membership.reasons() == []
