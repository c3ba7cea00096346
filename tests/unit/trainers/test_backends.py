"""What the backends that come with tunestream describe of themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.runs import run_config
from tunestream.config.run.trainers import OpaqueTrainer, resolved
from tunestream.trainers import JobSpec, LogLine, Stop, TrainingFailed, find_backend, open_backend
from tunestream.trainers.art.backend import ARTBackend, ARTTrainerAdapter
from tunestream.trainers.nemo.backend import NeMoCustomizerTrainerAdapter
from tunestream.trainers.port import JobReport
from tunestream.trainers.worker.protocol import Canceled

ART = {"_type": "openpipe_art_trainer_adapter", "backend": {"ip": "h", "port": 1}}
NEMO = {
    "_type": "nemo_customizer_trainer_adapter",
    "entity_host": "http://h",
    "datastore_host": "http://h",
    "namespace": "n",
    "customization_config": "c",
}
EPISODES = {"trajectory_builder": {"_type": "openpipe_art_traj_builder"}}


def section(trainer: dict[str, Any]) -> Any:
    builder = EPISODES if trainer["_type"] == ART["_type"] else {}
    return run_config("run", trainer=trainer, **builder).trainer


def test_our_backends_are_found_as_those_of_others_are() -> None:
    ours = distribution("tunestream").entry_points.select(group="tunestream.trainer_backends")
    assert {entry.name for entry in ours} == {"trl", ART["_type"], NEMO["_type"]}
    for entry in ours:
        assert find_backend(entry.name) is entry.load()
        assert entry.load().config.model_fields["type"].default == entry.name


@pytest.mark.parametrize("backend", ["art", "nemo", "trl"])
def test_every_backend_is_a_folder_of_the_same_files(backend: str) -> None:
    import tunestream.trainers

    folder = Path(tunestream.trainers.__file__).parent / backend
    names = {"backend.py", "config.py", "train.py", "errors.py"}
    assert names <= {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("adapter", "trainer", "name"),
    [(ARTTrainerAdapter, ART, "openpipe-art"), (NeMoCustomizerTrainerAdapter, NEMO, "nemo-customizer")],
)
def test_references_keep_the_toolkits_name_of_the_backend(
    adapter: Any, trainer: dict[str, Any], name: str, tmp_path: Path
) -> None:
    assert adapter(section(trainer), artifacts=str(tmp_path)).reference == name


def test_a_section_is_resolved_once() -> None:
    written = section(NEMO)
    kept = OpaqueTrainer.model_validate(written.model_dump(mode="json"))
    assert resolved(kept) == written
    assert resolved(written) is written


async def test_a_job_of_another_trainer_is_refused_by_its_name(tmp_path: Path) -> None:
    nemo = open_backend(find_backend(NEMO["_type"]), section(NEMO), str(tmp_path))
    spec = JobSpec(run_id="run", job_id="job", config=section(ART), artifacts=str(tmp_path))
    with pytest.raises(TrainingFailed, match="openpipe_art_trainer_adapter; this is the NeMo") as failure:
        await nemo.train(spec, lambda _: None)
    assert failure.value.code == "wrong_backend"
    await nemo.close()


class EndlessWorker:
    """A worker whose only job ends when it is canceled."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.canceled = asyncio.Event()

    async def run(self, spec: JobSpec) -> AsyncIterator[Canceled]:
        self.began.set()
        await self.canceled.wait()
        yield Canceled(job_id=spec.job_id)

    async def cancel(self, job_id: str) -> None:
        assert job_id == "job"
        self.canceled.set()


HERE = {**ART, "backend": {"kind": "local"}}


@pytest.mark.parametrize(
    ("trainer", "stop", "logged"),
    [
        (
            ART,
            Stop.CANCELED,
            ["canceled as asked; the service cannot end a job, and may train it to its end"],
        ),
        (ART, Stop.LOST, []),
        (HERE, Stop.CANCELED, []),
        (HERE, Stop.LOST, []),
    ],
)
async def test_a_canceled_job_of_arts_service_shows_that_the_service_may_go_on(
    trainer: dict[str, Any], stop: Stop, logged: list[str], tmp_path: Path
) -> None:
    worker: Any = EndlessWorker()
    config = section(trainer)
    spec = JobSpec(run_id="run", job_id="job", config=config, artifacts=str(tmp_path))
    reports: list[JobReport] = []
    training = asyncio.create_task(ARTBackend(config, worker=worker).train(spec, reports.append))
    await worker.began.wait()
    training.cancel(stop)
    with pytest.raises(asyncio.CancelledError):
        await training
    assert worker.canceled.is_set()
    assert [one.line for one in reports if isinstance(one, LogLine)] == logged
    adapter = ARTTrainerAdapter(config, artifacts=str(tmp_path))
    assert ("may train it to its end" in adapter.canceled) is (trainer is ART)
