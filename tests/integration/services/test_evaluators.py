"""Evaluators of a run's own before promotion, through the trainer service; a fake service trains."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from tests.helpers import tiny_model
from tests.helpers.evaluators import Endpoint
from tests.helpers.fake_nemo import FakeNeMo, nemo_config
from tests.helpers.log import bodies_of, read_until
from tests.helpers.runs import apply_run
from tests.helpers.services import Deployment
from tunestream.artifacts import ArtifactStore, put_rows
from tunestream.config.run.run import RunConfig
from tunestream.config.settings import KafkaSettings
from tunestream.events.cloudevents import Envelope
from tunestream.events.ids import job_id
from tunestream.events.models import Evaluation, ModelStatus, ModelVersion
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

pytestmark = pytest.mark.timeout(600)
ENDS = {TrainingStatusEnum.COMPLETED, TrainingStatusEnum.FAILED, TrainingStatusEnum.CANCELED}
HELD_OUT = 32


@pytest.fixture
def nemo() -> Iterator[FakeNeMo]:
    fake = FakeNeMo().start()
    yield fake
    fake.stop()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as server:
        yield server


@dataclass
class Site:
    """A run whose versions an endpoint scores."""

    kafka: KafkaSettings
    store: ArtifactStore
    config: RunConfig

    async def train(self, number: int) -> str:
        """Send a batch and return its job."""
        batch = TrainingBatch(
            run_id=self.config.run_id,
            batch_id=f"batch-{number}",
            config_digest=self.config.digest,
            objective=Objective.DPO,
            epoch=number,
            train=put_rows(self.store, tiny_model.rows(8, seed=number)),
            validation=put_rows(self.store, tiny_model.rows(HELD_OUT, seed=100 + number)),
            groups=8,
            curriculum=CurriculumState(current_percentile=1.0),
            policy_versions=[],
        )
        envelope = Envelope(id=batch.batch_id, type=type_of(batch), source="/tests", time=1)
        async with EventProducer(self.kafka) as producer:
            await producer.send(event_record("training.batches", (batch.run_id,), batch.to_json(), envelope))
        return job_id(batch.run_id, batch.batch_id)

    async def until(self, job: str, reached: Callable[[TrainingJobStatus], bool]) -> TrainingJobStatus:
        """Return a job's first status of which something holds."""

        def found(records: list[Any]) -> list[TrainingJobStatus]:
            statuses = [TrainingJobStatus.model_validate_json(record.value) for record in records]
            return [status for status in statuses if status.job_id == job and reached(status)]

        records = await read_until(
            self.kafka, "training.status", lambda read: bool(found(read)), run=self.config.run_id
        )
        return found(records)[0]

    async def trained(self, number: int) -> tuple[ModelVersion, Evaluation, str]:
        """Return the version that a batch made, its evaluation and the job's last message."""
        job = await self.train(number)
        status = await self.until(job, lambda status: status.status in ENDS)
        assert status.status is TrainingStatusEnum.COMPLETED, status.message
        bodies = await bodies_of(self.kafka, "models")
        (version,) = [one for one in bodies if isinstance(one, ModelVersion) and one.job_id == job]
        assert version.evaluation is not None
        return version, version.evaluation, status.message or ""


@pytest.fixture
async def site(deployment: Deployment, nemo: FakeNeMo, endpoint: Endpoint) -> Site:
    judge = {"_type": "http", "name": "judge", "url": endpoint.url, "min_margin": -0.1, "timeout": "10m"}
    config = await apply_run(
        deployment.kafka,
        f"judged-{uuid4().hex[:8]}",
        trainer=nemo_config(nemo).model_dump(mode="json"),
        evaluation={"evaluators": [judge]},
    )
    return Site(deployment.kafka, deployment.store, config)


async def test_evaluators_decide_what_is_promoted(site: Site, endpoint: Endpoint) -> None:
    first, evaluation, _ = await site.trained(0)
    assert (first.status, evaluation.evaluators[0].verdict) == (ModelStatus.PROMOTED, "unevaluated")
    assert endpoint.requests == [], "there were no earlier rows"

    endpoint.score = lambda _item: (0.0, 0.5)
    disliked, evaluation, message = await site.trained(1)
    assert (disliked.status, evaluation.verdict) == (ModelStatus.REJECTED, "rejected")
    one = evaluation.evaluators[0]
    assert (one.items, one.candidate, one.current, one.difference) == (HELD_OUT, 0.0, 0.5, -0.5)
    assert "judge -0.500 (-0.500 to -0.500) on 32 rows, rejected" in message

    endpoint.faults = [400]
    held, evaluation, message = await site.trained(2)
    assert held.status is ModelStatus.CANDIDATE
    assert "evaluator judge failed" in (evaluation.hold or "")
    assert "HTTP 400" in message

    endpoint.score = lambda _item: (0.5, 0.5)
    good, evaluation, _ = await site.trained(3)
    assert (good.status, evaluation.verdict) == (ModelStatus.PROMOTED, "promoted")
    assert [len(body["items"]) for body in endpoint.requests] == [HELD_OUT, HELD_OUT, 2 * HELD_OUT], (
        "what was held out of the rejected version's batch judges nobody"
    )
    assert {body["current"]["version"] for body in endpoint.requests} == {first.version}
    assert endpoint.requests[-1]["candidate"]["version"] == good.version


async def test_a_job_that_is_canceled_waits_for_no_evaluator(site: Site, endpoint: Endpoint) -> None:
    await site.trained(0)
    endpoint.faults = [600.0]
    job = await site.train(1)
    asked = await site.until(job, lambda status: (status.metadata or {}).get("phase") == "evaluating")
    assert "judge" in (asked.message or "")
    answer = await RunControl(site.config.run_id, settings=site.kafka, timeout=60).cancel(job)
    assert answer.accepted, answer.reason
    assert (await site.until(job, lambda status: status.status in ENDS)).status is TrainingStatusEnum.CANCELED
    endpoint.faults = []
    later, _, _ = await asyncio.wait_for(site.trained(2), 240)
    assert later.status is ModelStatus.PROMOTED, "the next job need not wait for the endpoint either"
