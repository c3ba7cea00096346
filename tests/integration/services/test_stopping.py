"""A service from its first moment to its last, as a process: health answers, and every end is in order."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import httpx
import pytest

from tests.helpers.services import ServiceProcess, free_port
from tests.helpers.surfaces import Fault, until_named
from tunestream.cli.service_server import BROKER_AWAY
from tunestream.config.settings import KafkaSettings
from tunestream.streams.admin import apply_topics
from tunestream.streams.embedded import EmbeddedKafka


async def ended(service: ServiceProcess) -> int:
    assert service.process is not None
    return await asyncio.to_thread(service.process.wait, 90)


def assert_in_order(service: ServiceProcess) -> None:
    """Every line is a JSON object, and none is a traceback."""
    lines = service.log.read_text().splitlines()
    assert all(isinstance(json.loads(line), dict) for line in lines)
    assert not [line for line in lines if "Traceback" in line]


async def answer(service: ServiceProcess, path: str) -> httpx.Response:
    """Ask until the process listens."""
    assert service.process is not None
    async with asyncio.timeout(90), httpx.AsyncClient() as client:
        while service.process.poll() is None:
            try:
                return await client.get(f"http://127.0.0.1:{service.port}{path}")
            except httpx.TransportError:
                await asyncio.sleep(0.05)
    raise AssertionError(f"it ended:\n{service.log.read_text()}")


def nowhere() -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port()}")


WAITING = Fault(
    health="it waits for the broker at",
    metric="tunestream_unready_reasons",
    log='"broker.away"',
    doctor="it waits for the broker at",
)


@pytest.mark.parametrize("name", ["ttc-collector", "trainer"])
async def test_a_service_is_live_while_it_waits_for_the_broker_and_obeys_a_signal(
    tmp_path: Path, name: str
) -> None:
    service = ServiceProcess(name, kafka := nowhere(), tmp_path)
    service.start()
    try:
        assert (await answer(service, "/health/live")).status_code == 200
        ready = await answer(service, "/health/ready")
        assert ready.status_code == 503
        assert f"waits for the broker at {kafka.bootstrap_servers}" in ready.json()["reasons"][0]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.port}") as client:
            await until_named(client, kafka, service.log, WAITING, name.replace("-", "_"))
        service.signal(signal.SIGTERM)
        assert await ended(service) == 0
    finally:
        service.stop()
    assert_in_order(service)


async def test_a_broker_that_stays_away_ends_the_service_with_a_reason(tmp_path: Path) -> None:
    service = ServiceProcess("ttc-collector", nowhere(), tmp_path, env={"TUNESTREAM_STARTUP_SECONDS": "0.2"})
    service.start()
    try:
        assert await ended(service) == BROKER_AWAY
    finally:
        service.stop()
    assert_in_order(service)
    assert "KAFKA_BOOTSTRAP_SERVERS" in service.log.read_text()


async def test_a_service_ends_in_time_when_its_broker_is_gone(
    own_kafka: EmbeddedKafka, tmp_path: Path
) -> None:
    settings = KafkaSettings(bootstrap_servers=own_kafka.bootstrap_servers)
    await apply_topics(settings)
    quick = {"TUNESTREAM_SHUTDOWN_SECONDS": "3"}
    services = [ServiceProcess(name, settings, tmp_path, env=quick) for name in ("ttc-collector", "trainer")]
    try:
        for service in services:
            service.start()
        for service in services:
            await service.ready()
        assert own_kafka.pid is not None
        os.kill(own_kafka.pid, signal.SIGKILL)
        for service in services:
            service.signal(signal.SIGTERM)
        assert [await ended(service) for service in services] == [0, 0]
    finally:
        for service in services:
            service.stop()
    for service in services:
        assert_in_order(service)
