"""The command line against the shared broker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tunestream.cli import app
from tunestream.config.settings import KafkaSettings
from tunestream.streams.admin import apply_topics

Command = Callable[..., Result]


@pytest.fixture
def without_topics(kafka_settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> KafkaSettings:
    """The environment points at the shared broker, with a prefix of this test alone."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka_settings.bootstrap_servers)
    monkeypatch.setenv("TUNESTREAM_KAFKA_TOPIC_PREFIX", kafka_settings.topic_prefix)
    return kafka_settings


@pytest.fixture
def settings(without_topics: KafkaSettings) -> KafkaSettings:
    """The same, with the topics."""
    asyncio.run(apply_topics(without_topics))
    return without_topics


@pytest.fixture
def tunestream() -> Command:
    """Run a command line; stdout and stderr stay apart."""

    def run(*arguments: object, **options: Any) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], **options)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def data(tunestream: Command) -> Callable[..., Any]:
    """Run a command line with --json and return what it printed."""

    def run(*arguments: object, **options: Any) -> Any:
        result = tunestream(*arguments, "--json", **options)
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    return run
