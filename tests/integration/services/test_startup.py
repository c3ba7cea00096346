"""Services and broker are often started together."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.helpers.services import ServiceProcess
from tunestream.config.settings import KafkaSettings
from tunestream.streams.admin import apply_topics
from tunestream.streams.embedded import EmbeddedKafka


async def test_a_service_waits_for_a_broker_that_is_away(own_kafka: EmbeddedKafka, tmp_path: Path) -> None:
    settings = KafkaSettings(bootstrap_servers=own_kafka.bootstrap_servers)
    await apply_topics(settings)
    await asyncio.to_thread(own_kafka.stop)
    service = ServiceProcess("ttc_collector", settings, tmp_path)
    service.start()
    try:
        async with asyncio.timeout(90):
            while not (service.log.exists() and "broker.away" in service.log.read_text()):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.1)
        await asyncio.to_thread(own_kafka.start)
        await service.ready()
    finally:
        service.stop()
