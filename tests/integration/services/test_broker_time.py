"""A topic without the broker's time, and a setting that no longer means anything, do not go unnoticed."""

from __future__ import annotations

from pathlib import Path

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from tests.helpers.counting import until_answer
from tests.helpers.log import read_until
from tests.helpers.runs import apply_run
from tests.helpers.services import ServiceProcess
from tunestream.config.settings import KafkaSettings
from tunestream.events.ttc import TTCTurnEnd
from tunestream.sdk import TTCPublisher
from tunestream.streams.admin import apply_topics
from tunestream.streams.broker.administration import administration


async def test_time_of_agents_in_the_log_is_a_reason_until_the_topic_is_mended(
    kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    await apply_topics(kafka_settings)
    await apply_run(kafka_settings, "run")
    await _set_timestamps(kafka_settings, "CreateTime")
    retired = "TUNESTREAM_COLLECTOR_GRACE_SECONDS"
    collector = ServiceProcess("ttc_collector", kafka_settings, tmp_path, env={retired: "0"})
    async with collector, TTCPublisher(kafka_settings) as publisher:
        assert retired in collector.log.read_text()
        await publisher.publish(TTCTurnEnd(run_id="run", example_id="e", turn_id="1"))
        await read_until(kafka_settings, "ttc.candidates", bool, run="run")
        assert "LogAppendTime" in await _until(collector, 503)
        await apply_topics(kafka_settings)
        await publisher.publish(TTCTurnEnd(run_id="run", example_id="e", turn_id="2"))
        assert "LogAppendTime" not in await _until(collector, 200)


async def _until(service: ServiceProcess, status: int) -> str:
    async with service.client() as client:
        answer = await until_answer(client, "/health/ready", lambda answer: answer.status_code == status)
    return answer.text


async def _set_timestamps(settings: KafkaSettings, kind: str) -> None:
    topic = settings.topic("ttc.events")
    resource = ConfigResource(
        ConfigResourceType.TOPIC, topic, configs={"message.timestamp.type": kind, "cleanup.policy": "delete"}
    )
    async with administration(settings) as admin:
        await admin.alter_configs([resource])
