"""OpenPipe ART through the trainer service: one batch of episodes becomes a version."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from tests.helpers.art import art_config, art_service, art_settings, played
from tests.helpers.fake_art import FakeART
from tests.helpers.log import bodies_of, read_until
from tests.helpers.runs import apply_run
from tests.helpers.services import ServiceProcess
from tunestream.artifacts import ArtifactStore, put_rows
from tunestream.config.settings import KafkaSettings
from tunestream.events.cloudevents import Envelope
from tunestream.events.dataset import EpisodeRow
from tunestream.events.ids import job_id
from tunestream.events.models import ModelVersion
from tunestream.events.registry import type_of
from tunestream.events.training import (
    CurriculumState,
    Objective,
    TrainingBatch,
    TrainingJobStatus,
    TrainingStatusEnum,
)
from tunestream.events.trajectories import EpisodeItem
from tunestream.streams.admin import apply_topics
from tunestream.streams.publish import EventProducer, event_record

__all__ = ["art_service"]

pytestmark = pytest.mark.timeout(1200)

ENDED = {TrainingStatusEnum.COMPLETED, TrainingStatusEnum.FAILED, TrainingStatusEnum.CANCELED}


def _rows() -> list[EpisodeRow]:
    return [
        EpisodeRow(
            group_id=f"g{group}",
            example_id=f"e{group}",
            items=[item for item in one.episode if isinstance(item, EpisodeItem)],
            reward=one.reward,
            policy_version="v0",
        )
        for group, members in enumerate(played().trajectories)
        for one in members
    ]


async def test_a_batch_of_episodes_becomes_a_version(
    art_service: FakeART, kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    art_service.reset()
    await apply_topics(kafka_settings)
    environment = {**art_settings().environment(), "TUNESTREAM_TRAINER_WARM_START": "false"}
    section = art_config(art_service, {"learning_rate": 3e-6}).model_dump(mode="json")
    config = await apply_run(
        kafka_settings,
        "episodes",
        trajectory_builder={"_type": "openpipe_art_traj_builder"},
        trainer=section,
    )
    batch = TrainingBatch(
        run_id="episodes",
        batch_id="batch",
        config_digest=config.digest,
        objective=Objective.GRPO,
        epoch=0,
        train=put_rows(ArtifactStore(str(tmp_path / "artifacts")), _rows()),
        validation=None,
        groups=4,
        curriculum=CurriculumState(current_percentile=1.0),
        policy_versions=["v0"],
    )
    async with ServiceProcess("trainer", kafka_settings, tmp_path, env=environment):
        async with EventProducer(kafka_settings) as producer:
            envelope = Envelope(id=uuid4().hex, type=type_of(batch), source="/tests", time=1)
            await producer.send(event_record("training.batches", ("episodes",), batch.to_json(), envelope))

        def statuses(records: list[object]) -> list[TrainingJobStatus]:
            return [TrainingJobStatus.model_validate_json(record.value) for record in records]  # type: ignore[attr-defined]

        records = await read_until(
            kafka_settings,
            "training.status",
            lambda found: any(one.status in ENDED for one in statuses(found)),
            deadline=900,
        )
        last = statuses(records)[-1]
        bodies = await bodies_of(kafka_settings, "models")
    assert last.status is TrainingStatusEnum.COMPLETED, last
    assert "24 episodes in 4 groups" in (last.message or "")
    (version,) = [body for body in bodies if isinstance(body, ModelVersion)]
    assert version.job_id == job_id("episodes", "batch")
    assert version.artifact.uri == "wandb-artifact:///games/trainer_project/episodes:step1"
    assert version.metrics["train_loss"] == 0.375
    assert art_service.job()["experimental_config"]["learning_rate"] == 3e-6
