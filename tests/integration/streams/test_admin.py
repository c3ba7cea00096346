from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from tunestream.config.settings import KafkaSettings
from tunestream.streams.admin import (
    TopicsError,
    TopicsRefusedError,
    apply_topics,
    diff_topics,
    list_topics,
)
from tunestream.streams.broker.topic_plan import TopicAction, TopicChange, TopicSettingChange
from tunestream.streams.broker.unavailable import BrokerUnavailable
from tunestream.streams.embedded.ports import free_port
from tunestream.topics import CATALOGUE


def actions(changes: Iterable[TopicChange]) -> set[TopicAction]:
    return {change.action for change in changes}


async def set_by_hand(settings: KafkaSettings, topic: str, configs: dict[str, str]) -> None:
    """Replace all settings of a topic, as an operator's tool would."""
    name = settings.topic(topic)
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    await admin.start()
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs)])
    await admin.close()
    async with asyncio.timeout(90):
        while await settings_of(settings, name) != configs:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def settings_of(settings: KafkaSettings, name: str) -> Mapping[str, str]:
    return {state.name: state.settings for state in await list_topics(settings)}[name]


async def test_apply_creates_the_catalogue_and_is_idempotent(kafka_settings: KafkaSettings) -> None:
    assert await list_topics(kafka_settings) == ()

    created = await apply_topics(kafka_settings)

    assert actions(created) == {TopicAction.CREATE}
    listed = {state.name: state for state in await list_topics(kafka_settings)}
    assert list(listed) == [kafka_settings.topic(entry.name) for entry in CATALOGUE]
    assert {state.partitions for state in listed.values()} == {4}
    dead_letters = listed[kafka_settings.topic("trajectories.dlq")]
    assert dead_letters.settings["max.message.bytes"] == str(16 << 20)
    assert dead_letters.settings["min.insync.replicas"] == "1"
    assert listed[kafka_settings.topic("runs")].settings["cleanup.policy"] == "compact"
    assert actions(await apply_topics(kafka_settings)) == {TopicAction.KEEP}


async def test_dry_run_changes_nothing(kafka_settings: KafkaSettings) -> None:
    assert actions(await apply_topics(kafka_settings, dry_run=True)) == {TopicAction.CREATE}
    assert await list_topics(kafka_settings) == ()


async def test_several_may_apply_at_once(kafka_settings: KafkaSettings) -> None:
    await asyncio.gather(*(apply_topics(kafka_settings) for _ in range(3)))
    assert actions(await diff_topics(kafka_settings)) == {TopicAction.KEEP}


async def test_diff_finds_a_changed_retention_and_apply_mends_only_that(
    kafka_settings: KafkaSettings,
) -> None:
    await apply_topics(kafka_settings)
    name = kafka_settings.topic("ttc.events")
    wanted = await settings_of(kafka_settings, name)
    await set_by_hand(kafka_settings, "ttc.events", {**wanted, "retention.ms": "1000", "flush.messages": "7"})

    [change] = [c for c in await diff_topics(kafka_settings) if c.action is TopicAction.ALTER]

    assert change.name == name
    assert change.settings == (TopicSettingChange("retention.ms", "1000", wanted["retention.ms"]),)
    await apply_topics(kafka_settings)
    assert await settings_of(kafka_settings, name) == {**wanted, "flush.messages": "7"}, "others' stay"


async def test_a_partition_count_is_never_changed(kafka_settings: KafkaSettings) -> None:
    await apply_topics(kafka_settings)
    await set_by_hand(kafka_settings, "models", {"retention.ms": "1000"})
    more = kafka_settings.model_copy(update={"partitions": 8})

    with pytest.raises(TopicsRefusedError, match=r"(?s)has 4 partitions, not 8.*new topic prefix") as caught:
        await apply_topics(more)

    assert len(caught.value.refused) == len(CATALOGUE)
    assert {state.partitions for state in await list_topics(kafka_settings)} == {4}
    assert await settings_of(kafka_settings, kafka_settings.topic("models")) == {"retention.ms": "1000"}


async def test_more_replicas_than_brokers_is_told(kafka_settings: KafkaSettings) -> None:
    settings = kafka_settings.model_copy(update={"replication_factor": 100})
    with pytest.raises(TopicsError, match="refused to create"):
        await apply_topics(settings)


async def test_no_broker_is_told_with_the_remedy() -> None:
    settings = KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port()}")
    with pytest.raises(BrokerUnavailable, match="tunestream up"):
        await apply_topics(settings)
