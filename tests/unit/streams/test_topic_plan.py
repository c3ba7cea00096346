"""How many partitions topics get, and which counts belong together."""

from __future__ import annotations

import pytest

from tunestream.config.settings import KafkaSettings
from tunestream.streams.broker.topic_plan import (
    TopicAction,
    TopicState,
    UnequalPartitions,
    check_equal,
    plan_topics,
    wanted_topics,
)
from tunestream.topics import CATALOGUE

SETTINGS = KafkaSettings(topic_prefix="mine.")
NEW = {"ttc.unscored", "ttc.scores", "ttc.scores.dlq"}
LINE = dict.fromkeys(("ttc.events", "ttc.candidates", "trajectories"), 8)


def state(name: str, partitions: int) -> TopicState:
    settings = next(entry for entry in CATALOGUE if entry.name == name).settings()
    return TopicState(f"mine.{name}", partitions, 1, settings | {"min.insync.replicas": "1"})


def before(partitions: int, **other: int) -> list[TopicState]:
    """Return the topics of the release before."""
    names = [entry.name for entry in CATALOGUE if entry.name not in NEW]
    return [state(name, other.get(name.replace(".", "_"), partitions)) for name in names]


def counts(present: list[TopicState], settings: KafkaSettings = SETTINGS) -> dict[str, int]:
    wanted = wanted_topics(settings, present)
    return {one.name.removeprefix("mine."): one.partitions for one in wanted}


def test_new_topics_have_as_many_partitions_as_those_that_they_belong_to() -> None:
    present = before(8)
    found = counts(present)
    assert set(found.values()) == {8}
    plan = plan_topics(wanted_topics(SETTINGS, present), present)
    created = {change.name for change in plan if change.action is TopicAction.CREATE}
    assert created == {f"mine.{name}" for name in NEW}
    assert {change.action for change in plan} == {TopicAction.CREATE, TopicAction.KEEP}


def test_a_topic_that_belongs_to_no_other_keeps_its_own_count() -> None:
    assert counts(before(8, models=3))["models"] == 3
    assert counts([state("ttc.events", 6)])["models"] == 6
    assert set(counts([]).values()) == {4}


def test_a_count_that_is_asked_for_is_that_of_every_topic() -> None:
    present = before(8)
    asked = SETTINGS.model_copy(update={"partitions": 4})
    plan = plan_topics(wanted_topics(asked, present), present)
    refused = [change for change in plan if change.action is TopicAction.REFUSE]
    assert len(refused) == len(present)
    assert refused[0].reason == "has 8 partitions, not 4"


def test_topics_that_belong_together_and_are_unequal_are_refused() -> None:
    present = before(8, trajectories=4)
    plan = plan_topics(wanted_topics(SETTINGS, present), present)
    (refused,) = [change for change in plan if change.name == "mine.trajectories"]
    assert (refused.action, refused.reason) == (TopicAction.REFUSE, "has 4 partitions, not 8")
    assert "new topic prefix" in (refused.remedy or "")


@pytest.mark.parametrize(
    ("service", "name", "count", "leader"),
    [
        ("pair-builder", "ttc.scores", 4, "ttc.candidates"),
        ("pair-builder", "ttc.scores", 9, "ttc.candidates"),
        ("pair-builder", "ttc.unscored", 7, "ttc.candidates"),
        ("pair-builder", "trajectories", 7, "ttc.candidates"),
        ("ttc-collector", "ttc.candidates", 4, "ttc.events"),
        ("pair-builder", "pair-builder.changelog", 4, "ttc.candidates"),
    ],
)
def test_a_service_does_not_start_with_unequal_counts(
    service: str, name: str, count: int, leader: str
) -> None:
    with pytest.raises(
        UnequalPartitions, match=rf"{name} has {count} .*{leader} has 8, .*topics apply.*new topic prefix"
    ):
        check_equal(service, LINE | {name: count})


def test_more_dead_letters_than_needed_and_topics_that_are_missing_are_no_fault() -> None:
    check_equal("pair-builder", {"ttc.candidates": 8, "ttc.candidates.dlq": 9})
    check_equal("ttc-collector", {"ttc.candidates": 8})
