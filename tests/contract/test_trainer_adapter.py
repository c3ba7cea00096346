"""What every training backend does, whatever is behind it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from tests.helpers.tiny_model import episodes, rows
from tests.helpers.training import job_spec, make_config
from tunestream.artifacts import ArtifactStore
from tunestream.events.training import Objective, TrainingJobRef, TrainingJobStatus, TrainingStatusEnum
from tunestream.events.trajectories import (
    DPOItem,
    EpisodeItem,
    EpisodeItemRole,
    Trajectory,
    TrajectoryCollection,
)
from tunestream.trainers import JobSpec, TrainerAdapter, TrainingResult, UnknownJob
from tunestream.trainers.trl.backend import TRLBackend, TRLTrainerAdapter
from tunestream.trainers.worker.handle import WorkerHandle


def collection(count: int = 32, *, seed: int = 0, run_id: str = "run") -> TrajectoryCollection:
    groups = []
    for row in rows(count, seed=seed):
        item = DPOItem(prompt=row.prompt, chosen_response=row.chosen, rejected_response=row.rejected)
        groups.append([Trajectory(episode=[item], reward=row.reward)])
    return TrajectoryCollection(trajectories=groups, run_id=run_id)


class TrainerAdapterContract:
    """Inherit it, and provide the fixtures ``adapter`` (initialised) and ``endless`` (trains for long).

    ``collection`` makes what is trained on, of another content for another seed: pairs, unless overridden.
    """

    collection: Callable[..., TrajectoryCollection] = staticmethod(collection)

    async def test_it_is_healthy_once_initialised(self, adapter: TrainerAdapter) -> None:
        await adapter.initialize()
        assert await adapter.is_healthy()

    async def test_a_job_completes(self, adapter: TrainerAdapter) -> None:
        ref = await adapter.submit(self.collection())
        assert ref.run_id == "run"
        status = await adapter.wait_until_complete(ref, poll_interval=0.05)
        assert status.status is TrainingStatusEnum.COMPLETED, status
        assert (status.run_id, status.backend, status.progress) == (ref.run_id, ref.backend, 100.0)

    async def test_the_terminal_status_can_be_asked_for_again(self, adapter: TrainerAdapter) -> None:
        ref = await adapter.submit(self.collection())
        status = await adapter.wait_until_complete(ref, poll_interval=0.05)
        assert await adapter.status(ref) == status
        assert await adapter.wait_until_complete(ref, poll_interval=0.05) == status

    async def test_a_reference_survives_the_wire(self, adapter: TrainerAdapter) -> None:
        ref = await adapter.submit(self.collection())
        again = TrainingJobRef.model_validate_json(ref.to_json())
        status = await adapter.wait_until_complete(again, poll_interval=0.05)
        assert TrainingJobStatus.model_validate_json(status.to_json()) == status

    async def test_a_job_that_was_taken_is_not_taken_again(
        self, adapter: TrainerAdapter, endless: TrainerAdapter
    ) -> None:
        first = await endless.submit(self.collection())
        assert await endless.submit(self.collection()) == first
        await endless.cancel(first)
        await endless.wait_until_complete(first, poll_interval=0.05)

    async def test_different_trajectories_are_different_jobs(self, adapter: TrainerAdapter) -> None:
        refs = [await adapter.submit(self.collection(seed=seed)) for seed in range(2)]
        assert refs[0] != refs[1]
        for ref in refs:
            await adapter.wait_until_complete(ref, poll_interval=0.05)

    async def test_a_job_can_be_canceled(self, endless: TrainerAdapter) -> None:
        ref = await endless.submit(self.collection())
        await endless.cancel(ref)
        status = await endless.wait_until_complete(ref, poll_interval=0.05)
        assert status.status is TrainingStatusEnum.CANCELED
        await endless.cancel(ref)
        assert await endless.status(ref) == status

    async def test_nothing_to_train_on_is_refused(self, adapter: TrainerAdapter) -> None:
        with pytest.raises(ValueError, match="no trajectories"):
            await adapter.submit(TrajectoryCollection(trajectories=[], run_id="run"))

    async def test_an_unknown_job_is_named(self, adapter: TrainerAdapter) -> None:
        ref = TrainingJobRef(run_id="nobody", backend="none", metadata={"job_id": "missing"})
        for ask in (adapter.status, adapter.wait_until_complete, adapter.cancel):
            with pytest.raises(UnknownJob, match="nobody"):
                await ask(ref)

    async def test_closing_ends_what_runs(self, endless: TrainerAdapter) -> None:
        ref = await endless.submit(self.collection())
        await endless.close()
        await endless.close()
        status = await endless.wait_until_complete(ref, poll_interval=0.05)
        assert status.status is TrainingStatusEnum.CANCELED


class TestTRLTrainerAdapter(TrainerAdapterContract):
    @pytest_asyncio.fixture(loop_scope="session")
    async def adapter(
        self, trl_worker: WorkerHandle, artifacts: ArtifactStore, tiny_model: Path
    ) -> AsyncIterator[TRLTrainerAdapter]:
        adapter = TRLTrainerAdapter(
            make_config(tiny_model), artifacts=artifacts.url, backend=TRLBackend(worker=trl_worker)
        )
        yield adapter
        await adapter.close()

    @pytest_asyncio.fixture(loop_scope="session")
    async def endless(
        self, trl_worker: WorkerHandle, artifacts: ArtifactStore, tiny_model: Path
    ) -> AsyncIterator[TRLTrainerAdapter]:
        config = make_config(tiny_model, num_train_epochs=10_000)
        adapter = TRLTrainerAdapter(config, artifacts=artifacts.url, backend=TRLBackend(worker=trl_worker))
        yield adapter
        await adapter.close()

    async def test_a_completed_job_tells_its_result(
        self, adapter: TRLTrainerAdapter, artifacts: ArtifactStore, tmp_path: Path
    ) -> None:
        status = await adapter.wait_until_complete(await adapter.submit(collection()))
        result = TrainingResult.model_validate(status.metadata)
        artifacts.fetch_directory(result.artifact.uri, result.artifact.sha256, tmp_path / "weights")
        assert result.rows_used == 32
        assert artifacts.files.children("checkpoints") == []

    async def test_a_run_continues_from_its_last_version(self, adapter: TRLTrainerAdapter) -> None:
        first = await adapter.wait_until_complete(await adapter.submit(collection()))
        second = await adapter.wait_until_complete(await adapter.submit(collection()))
        assert first.job_id != second.job_id
        one, two = (TrainingResult.model_validate(status.metadata) for status in (first, second))
        assert two.metrics["reward_margin"] != one.metrics["reward_margin"]
        assert two.artifact != one.artifact

    async def test_a_given_job_trains_on_its_stored_datasets(
        self, adapter: TRLTrainerAdapter, artifacts: ArtifactStore, tiny_model: Path
    ) -> None:
        spec = job_spec(artifacts, make_config(tiny_model))
        empty = TrajectoryCollection(trajectories=[], run_id="run")
        ref = await adapter.submit(empty, job=spec)
        assert await adapter.submit(empty, job=spec) == ref
        status = await adapter.wait_until_complete(ref)
        assert status.job_id == spec.job_id
        result = TrainingResult.model_validate(status.metadata)
        assert result.metrics["validation_accuracy_after"] > result.metrics["validation_accuracy_before"]
        assert await adapter.submit(empty, job=spec) == ref
        assert await adapter.status(ref) == status

    async def test_a_failure_has_its_reason(
        self, trl_worker: WorkerHandle, artifacts: ArtifactStore, tmp_path: Path
    ) -> None:
        config = make_config(tmp_path / "nowhere")
        adapter = TRLTrainerAdapter(config, artifacts=artifacts.url, backend=TRLBackend(worker=trl_worker))
        status = await adapter.wait_until_complete(await adapter.submit(collection()))
        assert status.status is TrainingStatusEnum.FAILED
        assert status.metadata == {"reason": "model_missing"}
        assert "nowhere" in (status.message or "")

    async def test_a_dead_worker_is_replaced_and_its_job_resumed(
        self, trl_worker: WorkerHandle, artifacts: ArtifactStore, tiny_model: Path
    ) -> None:
        config = make_config(tiny_model, num_train_epochs=60, save_steps=5)
        adapter = TRLTrainerAdapter(config, artifacts=artifacts.url, backend=TRLBackend(worker=trl_worker))
        ref = await adapter.submit(collection())
        async with asyncio.timeout(240):
            while not ((await adapter.status(ref)).metadata or {}).get("checkpoint"):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        before = await adapter.status(ref)
        assert trl_worker.pid is not None
        os.kill(trl_worker.pid, signal.SIGKILL)
        seen = [before]
        while (await adapter.status(ref)).status is TrainingStatusEnum.RUNNING:
            await asyncio.sleep(0.1)
            seen.append(await adapter.status(ref))
        progress = [status.progress or 0.0 for status in seen]
        assert before.status is TrainingStatusEnum.RUNNING
        assert seen[-1].status is TrainingStatusEnum.COMPLETED, seen[-1]
        assert progress == sorted(progress)
        assert any(status.message == "attempt 2 started" for status in seen)

    async def test_jobs_of_one_adapter_run_one_after_another(self, adapter: TRLTrainerAdapter) -> None:
        refs = [await adapter.submit(collection(seed=seed)) for seed in range(3)]
        ends = [await adapter.wait_until_complete(ref) for ref in refs]
        assert [end.status for end in ends] == [TrainingStatusEnum.COMPLETED] * 3
        assert [end.time for end in ends] == sorted(end.time for end in ends)

    @pytest.mark.parametrize("objective", [Objective.DPO, Objective.KTO])
    async def test_episodes_are_refused(
        self, artifacts: ArtifactStore, tiny_model: Path, objective: Objective
    ) -> None:
        config = make_config(tiny_model).model_copy(update={"objective": objective})
        adapter = TRLTrainerAdapter(config, artifacts=artifacts.url)
        episode = [EpisodeItem(role=EpisodeItemRole.USER, content="hello")]
        trajectories = [[Trajectory(episode=episode, reward=1.0)]]
        with pytest.raises(ValueError, match=f"{objective} does not learn from episodes"):
            await adapter.submit(TrajectoryCollection(trajectories=trajectories, run_id="run"))

    async def test_episodes_need_others_than_pairs(self, artifacts: ArtifactStore, tiny_model: Path) -> None:
        config = make_config(tiny_model).model_copy(update={"objective": Objective.GRPO})
        adapter = TRLTrainerAdapter(config, artifacts=artifacts.url)
        with pytest.raises(ValueError, match="grpo does not learn from preference pairs"):
            await adapter.submit(collection())

    async def test_episodes_are_trained_by_grpo_unless_told_otherwise(
        self, artifacts: ArtifactStore, tiny_model: Path, trl_worker: WorkerHandle
    ) -> None:
        groups: dict[str, list[Trajectory]] = {}
        for row in episodes(4, 6):
            groups.setdefault(row.group_id, []).append(Trajectory(episode=row.items, reward=row.reward))
        config = make_config(tiny_model, num_train_epochs=1).model_copy(update={"objective": None})
        adapter = TRLTrainerAdapter(config, artifacts=artifacts.url, backend=TRLBackend(worker=trl_worker))
        played = TrajectoryCollection(trajectories=list(groups.values()), run_id="episodes")
        end = await adapter.wait_until_complete(await adapter.submit(played))
        assert end.status is TrainingStatusEnum.COMPLETED, end
        assert "clip_fraction" in TrainingResult.model_validate(end.metadata).metrics

    async def test_an_empty_trajectory_is_refused(self, adapter: TRLTrainerAdapter) -> None:
        trajectories = [[Trajectory(episode=[], reward=1.0)]]
        with pytest.raises(ValueError, match="empty"):
            await adapter.submit(TrajectoryCollection(trajectories=trajectories, run_id="run"))


def test_a_job_with_held_out_rows_needs_training_rows(artifacts: ArtifactStore, tiny_model: Path) -> None:
    with pytest.raises(ValueError, match="validation needs train"):
        JobSpec.model_validate(job_spec(artifacts, make_config(tiny_model)).model_dump() | {"train": None})
