"""Dead letters and positions of the pair builder's second input, and deployments that have none yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import Result

from tests.helpers.faults import delete_topics
from tests.helpers.letters import BODY, write_letters
from tests.helpers.log import header, read_all
from tunestream.config.settings import KafkaSettings
from tunestream.streams.letters.dead_letters import DLQ_REPLAY_FOR

Command = Callable[..., Result]
Data = Callable[..., Any]
ADDED = ("ttc.unscored", "ttc.scores", "ttc.scores.dlq")


def test_letters_of_scores_are_listed_sent_again_and_deleted_with_their_marks(
    settings: KafkaSettings, tunestream: Command, data: Data
) -> None:
    asyncio.run(write_letters(settings, ["unknown_run"], source="ttc.scores", service="pair-builder"))
    (letter,) = data("dlq", "list")
    assert letter["letter"].startswith("ttc.scores/")
    assert tunestream("dlq", "replay", "--all").exit_code == 0
    assert tunestream("dlq", "replay", "--all").exit_code == 0
    (again,) = asyncio.run(read_all(settings, "ttc.scores"))
    assert (again.value, header(again, DLQ_REPLAY_FOR)) == (BODY, "pair-builder")
    assert data("dlq", "list")[0]["replayed"] is not None
    assert tunestream("dlq", "purge", "--before", "2999-01-01", "--yes").exit_code == 0
    assert data("dlq", "list") == []
    marks = asyncio.run(read_all(settings, "dlq.marks"))
    assert [mark.value is None for mark in marks] == [False, True]


def test_a_position_in_scores_is_set_beside_that_in_candidates(settings: KafkaSettings, data: Data) -> None:
    (row,) = data("streams", "seek", "pair-builder", "ttc.scores", 1, "earliest")
    assert row == {
        "service": "pair-builder",
        "topic": "ttc.scores",
        "partition": 1,
        "before": None,
        "offset": 0,
    }
    (row,) = data("streams", "seek", "pair-builder", "ttc.candidates", 1, "earliest")
    assert (row["before"], row["offset"]) == (None, 0)


@pytest.mark.parametrize(
    "command",
    [
        ("dlq",),
        ("dlq", "list"),
        ("dlq", "purge", "--before", "2999-01-01", "--yes"),
        ("dlq", "replay", "--all"),
        ("streams", "seek", "pair-builder", "ttc.candidates", "0", "earliest"),
        ("upgrade", "show"),
    ],
    ids=" ".join,
)
def test_commands_work_before_the_added_topics_are_there(
    settings: KafkaSettings, tunestream: Command, command: tuple[str, ...]
) -> None:
    asyncio.run(delete_topics(settings, *ADDED))
    done = tunestream(*command)
    assert done.exit_code == 0, done.stderr
    missing = tunestream("streams", "seek", "pair-builder", "ttc.scores", "0", "earliest")
    assert missing.exit_code == 1
    assert "tunestream topics apply" in missing.stderr


def test_the_doctor_names_topics_that_are_missing(settings: KafkaSettings, tunestream: Command) -> None:
    asyncio.run(delete_topics(settings, *ADDED))
    seen = tunestream("doctor")
    assert "ttc.scores" in seen.stdout
    assert "tunestream topics apply" in seen.stdout
