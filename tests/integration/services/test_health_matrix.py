"""Each fault of the stream is named wherever an operator looks: readiness, metrics, log and ``doctor``."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from typer.testing import CliRunner

from tests.helpers.audit import until_handled
from tests.helpers.faults import (
    candidate_of,
    delete_unread,
    open_transaction,
    publish_bad_run,
    publish_newer_state,
    publish_undecodable,
)
from tests.helpers.log import read_until
from tests.helpers.runs import apply_run
from tests.helpers.services import ServiceProcess
from tests.helpers.surfaces import Fault, Shown, assert_named, is_above_zero
from tunestream.cli import app
from tunestream.config.settings import KafkaSettings
from tunestream.overview.deployment import UP_FILE, Deployment, ServiceRecord, write_deployment
from tunestream.processes import ProcessRecord
from tunestream.streams.admin import apply_topics
from tunestream.streams.publish import EventProducer

pytestmark = pytest.mark.timeout(600)
PATIENCE = 90.0
# Each fault has a partition of its own.
HANGS, GAP, REFUSED, NEWER = range(4)
STALL = {"TUNESTREAM_STALL_SECONDS": "2"}


FAULTS = {
    "a transaction that stays open": Fault(
        rf"partition {HANGS}\b.*transaction",
        rf'tunestream_partition_stalled\w*\{{[^}}]*partition="{HANGS}"',
        rf'"partition": ?{HANGS}\b.*transaction|transaction.*"partition": ?{HANGS}\b',
        rf"ttc_collector: .*partition {HANGS}\b.*transaction",
    ),
    "records deleted before they were read": Fault(
        rf"partition {GAP} of \S+ttc\.events: offsets 1 to 3",
        rf'tunestream_gap_records_total\{{[^}}]*partition="{GAP}"',
        rf'partition\.gap.*"partition": ?{GAP}\b|"partition": ?{GAP}\b.*partition\.gap',
        rf"ttc_collector: partition {GAP} of \S+ttc\.events: offsets 1 to 3",
    ),
    "a record that the client cannot decode": Fault(
        None,
        r'tunestream_dead_letters_total\{[^}]*reason="undecodable\.header"',
        r"undecodable\.header",
        r"dead letters of ttc\.events: .*undecodable\.header",
    ),
    "a run that nobody applied": Fault(
        None,
        r'tunestream_dead_letters_total\{[^}]*reason="unknown_run"',
        r"unknown_run",
        r"dead letters of ttc\.events: .*unknown_run",
    ),
    "a record of a run that cannot be read": Fault(
        r"\bbroken\b",
        r"tunestream_table_records_skipped_total\{[^}]*runs",
        r"table\.record_skipped",
        r"ttc_collector: .*\bbroken\b",
    ),
    "state that a later release wrote": Fault(
        rf"partition {NEWER}\b.*version 8",
        rf'tunestream_partition_\w+\{{[^}}]*partition="{NEWER}"',
        rf'partition\.fault.*"partition": ?{NEWER}\b|"partition": ?{NEWER}\b.*partition\.fault',
        rf"ttc_collector: .*partition {NEWER}\b.*version 8",
    ),
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shown(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shown]:
    """Cause all faults in one collector, each in a partition of its own, and look."""
    settings = KafkaSettings(bootstrap_servers=kafka, topic_prefix=f"t{uuid4().hex[:10]}.")
    folder = tmp_path_factory.mktemp("sick")
    await apply_topics(settings)
    await apply_run(settings, "known")
    collector = ServiceProcess("ttc_collector", settings, folder, env=STALL)
    async with collector:
        await _publish(settings, "known", GAP)
        await until_handled(settings, "ttc-collector", "ttc.events")
    await publish_newer_state(settings, "ttc-collector", NEWER)
    await publish_bad_run(settings, "broken")
    for _ in range(3):
        await _publish(settings, "known", GAP)
    await delete_unread(settings, "ttc.events", GAP)
    await _publish(settings, "known", GAP)
    await publish_undecodable(settings, REFUSED)
    await _publish(settings, "nobody", REFUSED)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(open_transaction(settings, candidate_of("known", HANGS)))
        collector.start()
        stack.push_async_exit(collector.__aexit__)
        await read_until(settings, "ttc.events.dlq", lambda found: len(found) >= 2, deadline=PATIENCE)
        wanted = [fault.health for fault in FAULTS.values() if fault.health]
        health = await _health(collector, wanted)
        doctor = await asyncio.to_thread(_doctor, settings, folder, collector)
        metrics = await _metrics(collector, [fault.metric for fault in FAULTS.values()])
        yield Shown(health, metrics, collector.log.read_text(), doctor)


async def _publish(settings: KafkaSettings, run: str, partition: int) -> None:
    async with EventProducer(settings) as producer:
        await producer.send(candidate_of(run, partition))


async def _health(service: ServiceProcess, wanted: list[str]) -> str:
    """Return the reasons and warnings of readiness once they have what is wanted, or when patience ends."""
    lines = ""
    async with httpx.AsyncClient(timeout=PATIENCE) as client:
        for _ in range(int(PATIENCE / 0.5)):
            try:
                report = (await client.get(f"http://127.0.0.1:{service.port}/health/ready")).json()
            except httpx.TransportError:
                report = {"reasons": [], "warnings": []}
            lines = "\n".join([*report["reasons"], *report["warnings"]])
            if all(re.search(pattern, lines) for pattern in wanted):
                break
            await asyncio.sleep(0.5)  # nothing tells when another process has noticed
    return lines


async def _metrics(service: ServiceProcess, wanted: list[str]) -> str:
    """Return the metrics once they have what is wanted, or when patience ends."""
    text = await service.metrics()
    for _ in range(int(PATIENCE / 0.5)):
        if all(is_above_zero(pattern, text) for pattern in wanted):
            break
        await asyncio.sleep(0.5)  # a partition stands still for a while before it is shown as one that does
        text = await service.metrics()
    return text


def _doctor(settings: KafkaSettings, folder: Path, collector: ServiceProcess) -> str:
    assert collector.process is not None
    service = ServiceRecord(
        name="ttc_collector",
        url=f"http://127.0.0.1:{collector.port}",
        log=str(collector.log),
        process=ProcessRecord.of(collector.process.pid),
    )
    here = Deployment(
        process=ProcessRecord.of(os.getpid()),
        broker=settings.bootstrap_servers,
        topic_prefix=settings.topic_prefix,
        artifacts=str(folder / "artifacts"),
        services=(service,),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
        patch.delenv("TUNESTREAM_KAFKA_TOPIC_PREFIX", raising=False)
        write_deployment(UP_FILE, here)
        done = CliRunner().invoke(app, ["doctor", "--json"])
    assert done.exit_code == 1, done.output
    wrong = [row for row in json.loads(done.stdout) if row["ok"] is not True]
    return "\n".join(f"{row['name']}: {row['finding']} → {row['remedy']}" for row in wrong)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_it_is_named_everywhere(shown: Shown, fault: Fault) -> None:
    assert_named(shown, fault)
