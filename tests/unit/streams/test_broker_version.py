"""What the levels of ``metadata.version`` mean."""

from __future__ import annotations

import pytest

from tunestream.streams.broker.version import BrokerVersion, release_of


@pytest.mark.parametrize(
    ("level", "release"),
    [(1, "older than 3.3"), (7, "3.3"), (14, "3.6"), (25, "4.0"), (30, "4.3"), (31, "newer than 4.3")],
)
def test_a_level_belongs_to_a_release(level: int, release: str) -> None:
    assert release_of(level) == release


def test_a_broker_that_shows_none_is_named_by_what_that_means() -> None:
    assert str(BrokerVersion(None, None)) == "Kafka older than 3.3, or with ZooKeeper"


def test_a_cluster_that_has_not_settled_on_the_new_release_shows_both() -> None:
    assert str(BrokerVersion(30, 30)) == "Kafka 4.3 (metadata.version 30)"
    assert str(BrokerVersion(30, 25)) == "Kafka 4.3 (metadata.version 25, of 4.0)"
