"""Two processes with one replica number: the later one ends and says why, the earlier one goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.helpers.counting import OUTPUT, SERVICE, Board, example_end, numbers, plan, running, send
from tests.helpers.log import read_until
from tests.helpers.services import ServiceProcess
from tests.helpers.surfaces import Fault, until_named
from tunestream.cli.service_processes import REPLICA_TAKEN
from tunestream.config.settings import KafkaSettings, ServiceSettings
from tunestream.streams.admin import apply_topics
from tunestream.streams.runtime import replicas
from tunestream.topics import INPUTS


async def test_the_later_of_two_processes_with_one_replica_number_ends(
    kafka_settings: KafkaSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_lines: list[str]
) -> None:
    monkeypatch.setattr(replicas, "_YOUNG_SESSIONS", 0)  # of this process, which is the earlier one
    await apply_topics(kafka_settings)
    later = ServiceProcess(SERVICE.replace("-", "_"), kafka_settings, tmp_path)
    quick = ServiceSettings(session_timeout_seconds=6.0, retry_min_seconds=0.05, retry_max_seconds=0.2)
    # The same inputs as those of the later one: a place goes with what its last holder reads.
    async with running(plan(kafka_settings, Board(), *INPUTS[SERVICE]), quick) as client:
        await _ready(client)
        later.start()
        assert later.process is not None
        try:
            assert await asyncio.to_thread(later.process.wait, 120) == REPLICA_TAKEN
        finally:
            later.stop()
        assert "TUNESTREAM_REPLICA=0" in later.log.read_text()
        await until_named(client, kafka_settings, log_lines, SHARED)
        await send(kafka_settings, [example_end("run", 1)])
        found = await read_until(kafka_settings, OUTPUT, bool)
        await _ready(client)
    assert numbers(found, "run") == [1]


SHARED = Fault(
    health="another process of .* runs with TUNESTREAM_REPLICA=0",
    metric="tunestream_replica_conflicts_total",
    log=r'"replica\.shared"',
    doctor="pair_builder: another process of .* runs with TUNESTREAM_REPLICA=0",
)


async def _ready(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(90):
        while (await client.get("/health/ready")).status_code != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
