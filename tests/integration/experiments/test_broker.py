"""Experiments with a broker: data from a run's stream, training by the trainer service."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.services import ServiceProcess
from tests.helpers.tiny_model import rows
from tests.integration.experiments.conftest import MakeFile
from tests.integration.experiments.test_studies import complete, run
from tunestream.config.settings import KafkaSettings
from tunestream.events.cloudevents import Envelope
from tunestream.events.dataset import PreferenceRow
from tunestream.events.registry import type_of
from tunestream.events.trajectories import CloseReason, DPOItem, MemberScore, Trajectory, TrajectoryGroup
from tunestream.experiments.stage_runner import Processes
from tunestream.experiments.stages import Choice, Stage
from tunestream.experiments.trainer_service import TrainerService
from tunestream.streams.admin import apply_topics
from tunestream.streams.publish import EventProducer, event_record

pytestmark = pytest.mark.timeout(900)


def _group(run_id: str, row: PreferenceRow) -> TrajectoryGroup:
    item = DPOItem(prompt=row.prompt, chosen_response=row.chosen, rejected_response=row.rejected)
    return TrajectoryGroup(
        run_id=run_id,
        group_id=row.group_id,
        example_id=row.example_id,
        turn_id=row.turn_id,
        config_digest="digest",
        kind="preference",
        closed_by=CloseReason.COMPLETE,
        scores=[MemberScore(id=str(at), index=at, score=score) for at, score in enumerate((1.0, 0.0))],
        trajectories=[
            Trajectory(episode=[item], reward=1.0, metadata={"chosen_score": 1.0, "rejected_score": 0.0})
        ],
    )


@pytest.fixture
async def trajectories(kafka_settings: KafkaSettings) -> KafkaSettings:
    """Twenty-four groups of the run "source", and as many of another one."""
    await apply_topics(kafka_settings)
    async with EventProducer(kafka_settings) as producer:
        for number, row in enumerate(rows(24)):
            for run_id in ("source", "other"):
                group = _group(run_id, row)
                envelope = Envelope(id=f"{run_id}{number}", type=type_of(group), source="/tests", time=1)
                await producer.send(event_record("trajectories", (run_id,), group.to_json(), envelope))
    return kafka_settings


STREAM = {"path": None, "prompt": None, "prompt_stub": None, "train_size": 0.8, "test_size": 0.2}


async def test_a_runs_trajectories_are_examples_by_their_offsets(
    make_file: MakeFile, processes: Processes, trajectories: KafkaSettings
) -> None:
    def file(**stream: int) -> Path:
        return make_file(data=STREAM | {"stream": {"run_id": "source", **stream}})

    ingest = Choice(only=Stage.INGEST)
    whole = await run(file(), processes, choice=ingest, kafka=trajectories)
    report = whole.manifest(Stage.INGEST).details
    assert (report["rows"], report["leaks"]) == (24, 0)
    assert report["train"] + report["test"] == 24
    again = await run(file(start=0), processes, choice=ingest, kafka=trajectories)
    assert again.stages == {}
    part = await run(file(start=1, end=5), processes, choice=ingest, kafka=trajectories)
    assert 0 < part.manifest(Stage.INGEST).details["rows"] <= 4


@pytest.mark.soak
async def test_the_trainer_service_trains_an_experiment_once(
    make_file: MakeFile, processes: Processes, trajectories: KafkaSettings, tmp_path: Path
) -> None:
    service = TrainerService(trajectories, str(tmp_path / "artifacts"))
    file = make_file(data=STREAM | {"stream": {"run_id": "source"}}, lora={"r": [4, 8]})
    async with ServiceProcess("trainer", trajectories, tmp_path):
        ran = await run(file, processes, kafka=trajectories, service=service, max_parallel=2)
        assert complete(ran), [arm.stages for arm in ran.experiment.arms]
        jobs = {ran.manifest(Stage.FINETUNE, arm).details["job_id"] for arm in (0, 1)}
        forced = Choice(force=frozenset({Stage.FINETUNE}))
        again = await run(file, processes, kafka=trajectories, service=service, choice=forced)
    assert len(jobs) == 2
    assert {again.manifest(Stage.FINETUNE, arm).details["job_id"] for arm in (0, 1)} == jobs
    assert ran.manifest(Stage.FINETUNE).metrics["train_loss"] > 0
