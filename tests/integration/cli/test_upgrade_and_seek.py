from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from typer.testing import Result

from tests.helpers.counting import INPUT, SERVICE, example_end, send
from tunestream.config.settings import KafkaSettings
from tunestream.events.keys import encode_key
from tunestream.events.runs import FIRST_FORMAT, FORMAT, TURN_FORMAT
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
    assert row == {"writes": FIRST_FORMAT, "release": FORMAT, "finished": False, "reward_service": False}

    done = tunestream("upgrade", "finish")
    assert done.exit_code == 0
    assert "cannot be rolled back any more" in done.stderr
    (row,) = data("upgrade", "show")
    assert row == {"writes": FORMAT, "release": FORMAT, "finished": True, "reward_service": False}
    assert "Nothing to do" in tunestream("upgrade", "finish").stderr


def test_a_deployment_of_the_release_before_stays_what_it_is_until_the_upgrade_is_finished(
    settings: KafkaSettings, tunestream: Command, data: Callable[..., Any]
) -> None:
    asyncio.run(write_format(settings, TURN_FORMAT - 1, source="/tests", reward_service=True))
    assert tunestream("topics", "apply").exit_code == 0
    (row,) = data("upgrade", "show")
    assert row == {"writes": 2, "release": FORMAT, "finished": False, "reward_service": True}
    assert tunestream("upgrade", "finish").exit_code == 0
    (row,) = data("upgrade", "show")
    assert row == {"writes": FORMAT, "release": FORMAT, "finished": True, "reward_service": True}


def test_a_run_that_the_release_before_could_not_read_is_refused_until_then(
    settings: KafkaSettings, tunestream: Command, tmp_path: Path
) -> None:
    asyncio.run(write_format(settings, TURN_FORMAT - 1, source="/tests"))
    file = tmp_path / "run.yaml"
    file.write_text("run_id: r\nscores: later\ntrainer: {model: {hf_model_ckpt: m}}\n")
    refused = tunestream("run", "apply", file, "--no-health-check")
    assert refused.exit_code == 1
    assert "scores: needs format 3" in refused.stderr
    assert "tunestream upgrade finish" in refused.stderr
    assert tunestream("upgrade", "finish").exit_code == 0
    assert tunestream("run", "apply", file, "--no-health-check").exit_code == 0


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
