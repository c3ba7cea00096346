from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from typer.testing import Result

from tests.helpers.counting import INPUT, SERVICE, example_end, send
from tunestream.config.settings import KafkaSettings
from tunestream.events.keys import encode_key
from tunestream.events.runs import FIRST_FORMAT, FORMAT
from tunestream.streams.atomic import write_together
from tunestream.streams.publish import EncodedRecord
from tunestream.streams.runs import write_format

Command = Callable[..., Result]


def test_an_upgrade_is_finished_once(
    settings: KafkaSettings, tunestream: Command, data: Callable[..., Any]
) -> None:
    before = EncodedRecord("runs", encode_key("format"), None, [])
    asyncio.run(write_together(settings, "format", [before]))
    (row,) = data("upgrade", "show")
    assert row == {"writes": FIRST_FORMAT, "release": FORMAT, "finished": False}

    done = tunestream("upgrade", "finish")
    assert done.exit_code == 0
    assert "cannot be rolled back any more" in done.stderr
    (row,) = data("upgrade", "show")
    assert row == {"writes": FORMAT, "release": FORMAT, "finished": True}
    assert "Nothing to do" in tunestream("upgrade", "finish").stderr


def test_an_older_release_does_not_touch_what_a_later_one_upgraded(
    settings: KafkaSettings, tunestream: Command
) -> None:
    asyncio.run(write_format(settings, FORMAT + 1, source="/tests"))
    for command in ("show", "finish"):
        refused = tunestream("upgrade", command)
        assert refused.exit_code == 1
        assert "install the release that finished the upgrade" in refused.stderr


def test_a_position_is_set_and_shown(
    settings: KafkaSettings, tunestream: Command, data: Callable[..., Any]
) -> None:
    asyncio.run(send(settings, [example_end("run", 0) for _ in range(3)]))
    (row,) = data("streams", "seek", SERVICE, INPUT, 0, 2)
    assert row == {"service": SERVICE, "topic": INPUT, "partition": 0, "before": None, "offset": 2}
    (row,) = data("streams", "seek", SERVICE, INPUT, 0, "latest")
    assert (row["before"], row["offset"]) == (2, 3)

    refused = tunestream("streams", "seek", SERVICE, INPUT, 0, 7)
    assert refused.exit_code == 1
    assert "no offset 7" in refused.stderr
    assert "0 to 3, earliest or latest" in refused.stderr
    assert tunestream("streams", "seek", SERVICE, INPUT, 0, "yesterday").exit_code == 2
