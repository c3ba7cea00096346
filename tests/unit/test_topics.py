"""The catalogue, rule by rule as the design says it."""

from __future__ import annotations

import pytest

from tunestream.topics import CATALOGUE, Cleanup, KeyRule, Topic, changelog_of, dlq_of, topic

MIB = 1024 * 1024
NAMES = [entry.name for entry in CATALOGUE]
# By service: what it consumes.
INPUTS = {
    "ttc-collector": ["ttc.events"],
    "pair-builder": ["ttc.candidates", "ttc.scores"],
    "curriculum-gate": ["trajectories"],
    "trainer": ["training.batches", "training.control"],
}
# Where each service keeps its state; the trainer's is what everybody reads of jobs.
CHANGELOGS = {name: changelog_of(name) for name in INPUTS}
COMPACTED = {"training.jobs", "models", "runs", *CHANGELOGS.values()}
DEAD_LETTERS = {dlq_of(name) for names in INPUTS.values() for name in names}
KEYS = {
    "ttc.events": "run/example",
    "ttc.candidates": "run/example",
    "ttc.unscored": "run/example",
    "ttc.scores": "run/example",
    "trajectories": "run",
    "training.batches": "run",
    "training.control": "run",
    "training.control.results": "run",
    "training.jobs": "run/job or run/live",
    "training.status": "run",
    "models": "run/version or run/current",
    "runs": "run/config digest, run/current or format",
    "dlq.marks": "topic/partition/offset of the dead letter",
}


def every(names: set[str]) -> list[Topic]:
    return [topic(name) for name in sorted(names)]


def test_the_catalogue_is_the_designs() -> None:
    assert len(NAMES) == len(set(NAMES))
    assert set(NAMES) == KEYS.keys() | set(CHANGELOGS.values()) | DEAD_LETTERS


@pytest.mark.parametrize("name", KEYS)
def test_keys(name: str) -> None:
    assert topic(name).key == KEYS[name]


def test_keys_of_state_and_of_dead_letters_are_their_owners() -> None:
    assert {entry.key for entry in CATALOGUE if entry.service} == {KeyRule.STATE}
    assert {entry.key for entry in CATALOGUE if entry.source} == {KeyRule.ORIGINAL}


@pytest.mark.parametrize("name", sorted(KEYS.keys() - {"training.jobs"}))
def test_bodies_are_4_mib_normalised_turns_5_and_groups_8(name: str) -> None:
    larger = {"trajectories": 8} | dict.fromkeys(("ttc.candidates", "ttc.unscored", "ttc.scores"), 5)
    assert topic(name).max_message_bytes == larger.get(name, 4) * MIB


@pytest.mark.parametrize(("service", "name"), [*CHANGELOGS.items(), ("trainer", "training.jobs")])
def test_a_changelog_takes_a_mebibyte_more_than_its_input(service: str, name: str) -> None:
    largest = max(topic(read).max_message_bytes for read in INPUTS[service])
    assert topic(name).max_message_bytes == largest + MIB


@pytest.mark.parametrize("name", sorted(DEAD_LETTERS))
def test_dead_letters_take_twice_their_source(name: str) -> None:
    entry = topic(name)
    assert entry.source is not None
    assert name == f"{entry.source}.dlq"
    assert entry.max_message_bytes == 2 * topic(entry.source).max_message_bytes


def test_what_services_read_has_dead_letters_and_nothing_else() -> None:
    assert {entry.name for entry in CATALOGUE if entry.source} == DEAD_LETTERS


def test_what_the_trainer_writes_lies_in_the_runs_partition() -> None:
    by_run = {"training.jobs", "training.status", "training.control.results", "models"}
    assert {entry.name for entry in CATALOGUE if entry.by_run} == by_run


@pytest.mark.parametrize("name", sorted(COMPACTED))
def test_state_is_compacted_early_and_never_forgotten(name: str) -> None:
    settings = topic(name).settings()
    assert settings["cleanup.policy"] == "compact"
    assert settings["segment.bytes"] == str(16 * MIB)
    assert settings["segment.ms"] == "60000"
    assert settings["min.cleanable.dirty.ratio"] == "0.1"
    assert "retention.ms" not in settings


@pytest.mark.parametrize("name", sorted(set(NAMES) - COMPACTED - {"dlq.marks"}))
def test_events_are_kept_by_time(name: str) -> None:
    settings = topic(name).settings()
    assert settings["cleanup.policy"] == "delete"
    assert int(settings["retention.ms"]) >= 7 * 24 * 3600 * 1000
    assert not settings.keys() & {"segment.bytes", "segment.ms", "min.cleanable.dirty.ratio"}


def test_dead_letters_are_kept_longer_than_what_they_came_from() -> None:
    for entry in every(DEAD_LETTERS):
        source = topic(entry.source or "")
        assert int(entry.settings()["retention.ms"]) > int(source.settings()["retention.ms"])


def test_marks_are_compacted_and_outlive_their_letters() -> None:
    settings = topic("dlq.marks").settings()
    assert settings["cleanup.policy"] == "compact,delete"
    week = 7 * 24 * 3600 * 1000  # as late as Kafka may delete
    for entry in every(DEAD_LETTERS):
        assert int(settings["retention.ms"]) > int(entry.settings()["retention.ms"]) + week


def test_only_the_broker_stamps_what_agents_send() -> None:
    stamped = {
        entry.name for entry in CATALOGUE if entry.settings()["message.timestamp.type"] == "LogAppendTime"
    }
    assert stamped == {"ttc.events"}


def test_ticks_flow_where_silence_is_told() -> None:
    assert {entry.name for entry in CATALOGUE if "tunestream.tick.v1" in entry.types} == {
        "ttc.candidates",
        "trajectories",
    }


def test_every_topic_says_what_it_carries() -> None:
    for entry in CATALOGUE:
        assert entry.description.endswith(".")
        assert (entry.types == ()) is (entry.service is not None or entry.source is not None)
        assert (entry.cleanup is Cleanup.COMPACT) is (entry.retention_ms is None)


def test_an_unknown_topic_is_an_error() -> None:
    with pytest.raises(KeyError):
        topic("ttc.eventz")
