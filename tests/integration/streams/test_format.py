"""What a deployment writes: decided by one record of ``runs``."""

from __future__ import annotations

import pytest

from tunestream.config.settings import KafkaSettings
from tunestream.events.keys import encode_key
from tunestream.events.runs import FIRST_FORMAT, FORMAT, NewerFormat
from tunestream.streams.admin import apply_topics
from tunestream.streams.atomic import write_together
from tunestream.streams.publish import EncodedRecord
from tunestream.streams.runs import RunDirectory, write_format


async def test_a_new_deployment_writes_the_latest_format(kafka_settings: KafkaSettings) -> None:
    await apply_topics(kafka_settings)
    await apply_topics(kafka_settings)
    async with RunDirectory(kafka_settings) as runs:
        assert runs.format == FORMAT


async def test_an_older_deployment_keeps_the_format_before(kafka_settings: KafkaSettings) -> None:
    await apply_topics(kafka_settings)
    await write_together(kafka_settings, "format", [EncodedRecord("runs", encode_key("format"), None, [])])
    await apply_topics(kafka_settings)
    async with RunDirectory(kafka_settings) as runs:
        assert runs.format == FIRST_FORMAT


async def test_a_format_that_is_not_known_is_refused_with_the_remedy(kafka_settings: KafkaSettings) -> None:
    await apply_topics(kafka_settings)
    await write_format(kafka_settings, FORMAT + 1, source="/tests")
    async with RunDirectory(kafka_settings) as runs:
        with pytest.raises(NewerFormat, match="install the release"):
            _ = runs.format
