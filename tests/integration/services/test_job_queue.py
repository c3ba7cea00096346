"""Jobs that wait: fair between runs, bounded in number and age, also after the trainer died."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import ConsumerRecord

from tests.helpers import tiny_model
from tests.helpers.log import read_until
from tests.helpers.runs import apply_run
from tests.helpers.services import ServiceProcess
from tests.helpers.trainer_plugin import install_trainer, training_command
from tunestream.artifacts import ArtifactStore, put_rows
from tunestream.config.run.run import RunConfig
from tunestream.config.settings import KafkaSettings
from tunestream.domain.jobs.lifecycle import TERMINAL
from tunestream.events.base import Wire
from tunestream.events.cloudevents import Envelope
from tunestream.events.ids import job_id
from tunestream.events.keys import encode_key
from tunestream.events.registry import type_of
from tunestream.events.training import (
    ControlCommand,
    CurriculumState,
    Objective,
    TrainingBatch,
    TrainingJobStatus,
    TrainingStatusEnum,
)
from tunestream.streams.admin import apply_topics
from tunestream.streams.publish import EventProducer, event_record
from tunestream.streams.tasks.encoding import partition_for

pytestmark = pytest.mark.timeout(600)

DEADLINE = 500.0
COMPLETED, FAILED = TrainingStatusEnum.COMPLETED, TrainingStatusEnum.FAILED
CANCELED, PENDING = TrainingStatusEnum.CANCELED, TrainingStatusEnum.PENDING


class Site:
    """A deployment whose only service is the trainer."""

    def __init__(self, settings: KafkaSettings, folder: Path) -> None:
        self.settings = settings
        self.store = ArtifactStore(str(folder / "artifacts"))
        self.train = put_rows(self.store, tiny_model.rows(8))

    async def run(self, run_id: str, command: list[str], **limits: int) -> RunConfig:
        trainer = {"_type": "command", "command": command, **limits}
        return await apply_run(self.settings, run_id, trainer=trainer)

    def batch(self, config: RunConfig, epoch: int, policy_versions: Iterable[str] = ()) -> TrainingBatch:
        return TrainingBatch(
            run_id=config.run_id,
            batch_id=f"batch-{epoch}",
            config_digest=config.digest,
            objective=Objective.DPO,
            epoch=epoch,
            train=self.train,
            validation=None,
            groups=8,
            curriculum=CurriculumState(current_percentile=1.0),
            policy_versions=list(policy_versions),
        )

    async def send(self, *bodies: Wire) -> None:
        names = {TrainingBatch: "training.batches", ControlCommand: "training.control"}
        async with EventProducer(self.settings) as producer:
            for number, body in enumerate(bodies):
                envelope = Envelope(id=str(number), type=type_of(body), source="/tests", time=1)
                key = (getattr(body, "run_id", ""),)
                await producer.send(event_record(names[type(body)], key, body.to_json(), envelope))

    async def statuses(self, states: Iterable[TrainingStatusEnum], count: int) -> list[TrainingJobStatus]:
        """Read the statuses until so many jobs have been in one of the states."""

        def enough(records: list[ConsumerRecord]) -> bool:
            return len({one.job_id for one in _parsed(records) if one.status in states}) >= count

        return _parsed(await read_until(self.settings, "training.status", enough, deadline=DEADLINE))


def _parsed(records: list[ConsumerRecord]) -> list[TrainingJobStatus]:
    return [TrainingJobStatus.model_validate_json(record.value) for record in records]


def _neighbour(run: str, partitions: int) -> str:
    """Return the name of a run on the same partition: their statuses are in one order."""
    place = partition_for(encode_key(run), partitions)
    names = (f"few-{number}" for number in range(1000))
    return next(name for name in names if partition_for(encode_key(name), partitions) == place)


async def test_waiting_jobs_are_judged_when_they_would_start(
    kafka_settings: KafkaSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue is the same for every trainer of this machine; a command needs no torch."""
    await apply_topics(kafka_settings)
    places = install_trainer(tmp_path / "site-packages")
    for place in places:
        monkeypatch.syspath_prepend(place)
    site = Site(kafka_settings, tmp_path)
    trains, fails, endless = training_command(tmp_path), ["false"], ["sh", "-c", "sleep infinity"]
    neighbour = _neighbour("many", kafka_settings.partitions)
    blocking = await site.run("blocking", endless)
    many, few = await site.run("many", fails), await site.run(neighbour, fails)
    crowded = await site.run("crowded", fails, max_queued=2)
    aging = await site.run("aging", trains, max_policy_lag=0)
    waiting = [
        *(site.batch(many, epoch) for epoch in range(6)),
        site.batch(few, 0),
        *(site.batch(crowded, epoch) for epoch in range(5)),
        site.batch(aging, 0),
        site.batch(aging, 1, ["base"]),  # not stale while it waits: there is no version yet
        site.batch(aging, 2),
    ]
    environment = {
        "TUNESTREAM_TRAINER_MAX_ATTEMPTS": "2",
        "TUNESTREAM_TRAINER_ATTEMPT_DELAY_SECONDS": "0.01",
        "PYTHONPATH": os.pathsep.join(places),
    }
    async with ServiceProcess("trainer", kafka_settings, tmp_path, env=environment) as trainer:
        await site.send(site.batch(blocking, 0))
        await site.statuses([TrainingStatusEnum.RUNNING], 1)
        await site.send(*waiting)
        await site.statuses([PENDING], 1 + len(waiting))
        await asyncio.to_thread(trainer.kill)
        blocker = job_id("blocking", "batch-0")
        await site.send(ControlCommand(run_id="blocking", command_id="stop", action="cancel", job_id=blocker))
        trainer.start()
        await trainer.ready()
        statuses = await site.statuses(TERMINAL, 1 + len(waiting))
        metrics = await trainer.metrics()

    ends: defaultdict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for status in statuses:
        if status.status in TERMINAL:
            ends[status.run_id].append((status.status, (status.metadata or {}).get("reason")))
    failed = (FAILED, "command_failed")
    assert ends["blocking"] == [(CANCELED, "canceled")]
    assert ends["many"] == [failed] * 6
    assert ends["crowded"] == [(CANCELED, "overflow")] * 3 + [failed] * 2
    assert ends["aging"] == [(COMPLETED, None), (CANCELED, "stale"), (COMPLETED, None)]
    starts = [one.run_id for one in statuses if (one.metadata or {}).get("attempt") == 1]
    assert starts[: starts.index(neighbour)].count("many") <= 1
    assert starts.count("many") == 6
    assert 'tunestream_policy_lag_versions_count{outcome="stale"} 1.0' in metrics
    assert 'tunestream_policy_lag_versions_bucket{le="0.0",outcome="stale"} 0.0' in metrics
    assert 'tunestream_policy_lag_versions_bucket{le="1.0",outcome="stale"} 1.0' in metrics
