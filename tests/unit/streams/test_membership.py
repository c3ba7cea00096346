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
    (reason,) = membership.reasons()
    assert reason.startswith("partition 0: waits for b,")


def test_a_number_whose_first_input_another_member_has_is_nothing_to_wait_for() -> None:
    membership = Membership(["b", "a"])
    membership.assigned([*places("b", 2, 3), *places("a", 0, 1, 2, 3)])
    assert membership.whole == {2, 3}
    assert membership.reasons() == []
    assert [line.split(",")[0] for line in membership.warnings()] == [
        "partition 0: another member has b",
        "partition 1: another member has b",
    ]


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
