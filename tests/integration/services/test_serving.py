"""Promoted versions reach the servers: a trainer at work on a real broker, whatever is away meanwhile."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import ConsumerRecord
from typer.testing import CliRunner

from tests.helpers import tiny_model
from tests.helpers.counting import until_answer
from tests.helpers.fake_model_server import FakeModelServer
from tests.helpers.log import header, read_until
from tests.helpers.promotions import until
from tests.helpers.runs import apply_run
from tests.helpers.services import Deployment, ServiceProcess
from tunestream.artifacts import ArtifactStore, put_rows
from tunestream.cli import app
from tunestream.config.run.run import RunConfig
from tunestream.config.settings import KafkaSettings
from tunestream.events.cloudevents import Envelope
from tunestream.events.models import CurrentModel
from tunestream.events.registry import type_of
from tunestream.events.training import (
    CurriculumState,
    Objective,
    TrainingBatch,
    TrainingJobStatus,
    TrainingStatusEnum,
)
from tunestream.sdk import RunControl
from tunestream.streams.publish import EventProducer, event_record

pytestmark = pytest.mark.timeout(900)
PATIENCE = 120.0  # seconds
RUN = "served"


async def test_a_dead_server_does_not_stop_training_and_is_caught_up(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka, store, trainer = deployment.kafka, deployment.store, deployment.services["trainer"]
    model = tiny_model.write_tiny_model(tmp_path / "model")
    dead = FakeModelServer()
    async with FakeModelServer() as living:
        servers = [{"url": server.url, "keep_previous": 0} for server in (living, dead)]
        config = await _apply(kafka, model, servers)
        first = await _train(kafka, config, store, 0)
        await _serves(living, first)
        await _warns_of(trainer, f"{dead.url} should serve m@{first}: no answer")

        second = await _train(kafka, config, store, 1)
        assert second != first
        await _serves(living, second)
        out_of_sync = f'in_sync{{run="{RUN}",server="{dead.url}"}} 0.0'
        async with trainer.client() as client:
            await until_answer(client, "/metrics", lambda answer: out_of_sync in answer.text)
        await asyncio.to_thread(dead.start)
        await _serves(dead, second)

        trainer.kill()
        for server in (living, dead):
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(server.start)
        trainer.start()
        await trainer.ready()
        for server in (living, dead):
            await _serves(server, second)

        answer = await RunControl(RUN, settings=kafka, timeout=PATIENCE).rollback()
        assert answer.accepted, answer.reason
        for server in (living, dead):
            await _serves(server, first)
        trainer.signal(signal.SIGSTOP)  # it would mend what the command is to find
        try:
            await _asked_by_command(kafka, monkeypatch, living, dead, first)
        finally:
            trainer.signal(signal.SIGCONT)
        await _apply(kafka, model, [])
    await asyncio.to_thread(dead.stop)


async def _asked_by_command(
    settings: KafkaSettings,
    monkeypatch: pytest.MonkeyPatch,
    living: FakeModelServer,
    other: FakeModelServer,
    version: str,
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", settings.bootstrap_servers)
    monkeypatch.setenv("TUNESTREAM_KAFKA_TOPIC_PREFIX", settings.topic_prefix)

    async def ask(code: int, *arguments: str) -> dict[str, Any]:
        command = ["models", "serving", *arguments, "--json"]
        result = await asyncio.to_thread(CliRunner().invoke, app, command)
        assert result.exit_code == code, result.output
        return {row["server"]: row for row in json.loads(result.stdout)}

    rows = await ask(0)
    assert rows[living.url] == {
        "run_id": RUN,
        "server": living.url,
        "kind": "vllm",
        "number": 1,
        "desired": f"m@{version}",
        "listed": [f"m@{version}"],
        "in_sync": True,
        "problem": None,
    }
    living.adapters.clear()
    await asyncio.to_thread(other.stop)
    rows = await ask(1, RUN)
    assert rows[living.url]["problem"] == f"does not list m@{version}"
    assert "no answer" in rows[other.url]["problem"]


async def _serves(server: FakeModelServer, version: str) -> None:
    await until(lambda: set(server.adapters) == {f"m@{version}"}, f"{server.url} serves {version}", PATIENCE)


async def _warns_of(trainer: ServiceProcess, wanted: str) -> None:
    """Wait until the trainer warns of this alone; the server that lists a version may not know it yet."""

    def told(answer: httpx.Response) -> bool:
        assert answer.status_code == 200, "a server that is away is no reason against the trainer's readiness"
        warnings = answer.json()["warnings"]
        return len(warnings) == 1 and wanted in warnings[0]

    async with trainer.client() as client:
        await until_answer(client, "/health/ready", told)


async def _apply(settings: KafkaSettings, model: Path, servers: list[dict[str, Any]]) -> RunConfig:
    arguments = {"learning_rate": 3e-3, "num_train_epochs": 1, "per_device_train_batch_size": 8}
    trainer = {
        "_type": "trl",
        "model": {"hf_model_ckpt": str(model)},
        "lora": {"r": 4},
        "training": {"training_args": arguments},
    }
    return await apply_run(settings, RUN, trainer=trainer, target_model="m", serving=servers)


async def _train(settings: KafkaSettings, config: RunConfig, store: ArtifactStore, number: int) -> str:
    """Send a batch and return the version that its job made and that is promoted."""
    batch = TrainingBatch(
        run_id=RUN,
        batch_id=f"batch-{number}",
        config_digest=config.digest,
        objective=Objective.DPO,
        epoch=number,
        train=put_rows(store, tiny_model.rows(16, seed=number)),
        validation=None,
        groups=16,
        curriculum=CurriculumState(current_percentile=1.0),
        policy_versions=[],
    )
    async with EventProducer(settings) as producer:
        envelope = Envelope(id=str(number), type=type_of(batch), source="/tests", time=1)
        await producer.send(event_record("training.batches", (RUN,), batch.to_json(), envelope))
    statuses = await read_until(
        settings, "training.status", _ended(number + 1), deadline=3 * PATIENCE, run=RUN
    )
    end = TrainingJobStatus.model_validate_json(statuses[-1].value)
    assert end.status is TrainingStatusEnum.COMPLETED, end.message
    records = await read_until(settings, "models", lambda records: len(_pointers(records)) > number, run=RUN)
    return _pointers(records)[-1].version


def _ended(count: int) -> Callable[[list[ConsumerRecord]], bool]:
    ends = {TrainingStatusEnum.COMPLETED, TrainingStatusEnum.FAILED, TrainingStatusEnum.CANCELED}

    def enough(records: list[ConsumerRecord]) -> bool:
        statuses = [TrainingJobStatus.model_validate_json(record.value).status for record in records]
        return sum(status in ends for status in statuses) >= count

    return enough


def _pointers(records: list[ConsumerRecord]) -> list[CurrentModel]:
    return [
        CurrentModel.model_validate_json(record.value)
        for record in records
        if header(record, "ce_type") == type_of(CurrentModel)
    ]
