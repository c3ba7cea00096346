"""The ART backend does what every backend does, in both of ART's ways."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.contract.test_backend_port import BackendContract, Subject
from tests.contract.test_trainer_adapter import TrainerAdapterContract
from tests.helpers.art import (
    art_config,
    art_service,
    art_settings,
    art_worker,
    local_config,
    played,
)
from tests.helpers.fake_art import ENDLESS, FakeART
from tunestream.artifacts import ArtifactStore, put_rows
from tunestream.trainers import JobSpec
from tunestream.trainers.art.backend import ARTBackend, ARTTrainerAdapter
from tunestream.trainers.art.worker import ARTWorkerHandle

__all__ = ["art_service", "art_worker"]

pytestmark = pytest.mark.timeout(1200)


class TestServerless(TrainerAdapterContract):
    collection = staticmethod(played)

    @pytest_asyncio.fixture(loop_scope="session")
    async def adapter(
        self, art_service: FakeART, art_worker: ARTWorkerHandle, artifacts: ArtifactStore
    ) -> AsyncIterator[ARTTrainerAdapter]:
        art_service.reset()
        yield _adapter(art_config(art_service), artifacts, art_worker)

    @pytest_asyncio.fixture(loop_scope="session")
    async def endless(
        self, art_service: FakeART, art_worker: ARTWorkerHandle, artifacts: ArtifactStore
    ) -> AsyncIterator[ARTTrainerAdapter]:
        art_service.reset()
        art_service.state.script = list(ENDLESS)
        adapter = _adapter(art_config(art_service), artifacts, art_worker)
        yield adapter
        await adapter.close()


class TestLocal(TrainerAdapterContract):
    collection = staticmethod(played)

    @pytest_asyncio.fixture(loop_scope="session")
    async def adapter(
        self, art_worker: ARTWorkerHandle, artifacts: ArtifactStore, tiny_model: Path, tmp_path: Path
    ) -> AsyncIterator[ARTTrainerAdapter]:
        yield _adapter(local_config(tiny_model, tmp_path / "art"), artifacts, art_worker)

    @pytest_asyncio.fixture(loop_scope="session")
    async def endless(
        self, art_worker: ARTWorkerHandle, artifacts: ArtifactStore, tiny_model: Path, tmp_path: Path
    ) -> AsyncIterator[ARTTrainerAdapter]:
        slow = {"trainer_args": {"per_device_train_batch_size": 1}}
        adapter = _adapter(local_config(tiny_model, tmp_path / "art", **slow), artifacts, art_worker)
        yield adapter
        await adapter.close()


class TestServerlessPort(BackendContract):
    @pytest.fixture
    def subject(self, art_service: FakeART, art_worker: ARTWorkerHandle, artifacts: ArtifactStore) -> Subject:
        art_service.reset()
        return _subject(art_config(art_service), artifacts, art_worker)

    @pytest.fixture
    def endless(self, art_worker: ARTWorkerHandle, artifacts: ArtifactStore) -> Iterator[Subject]:
        service = FakeART().start()
        service.state.script = list(ENDLESS)
        yield _subject(art_config(service), artifacts, art_worker)
        service.stop()


class TestLocalPort(BackendContract):
    @pytest.fixture
    def subject(
        self, art_worker: ARTWorkerHandle, artifacts: ArtifactStore, tiny_model: Path, tmp_path: Path
    ) -> Subject:
        return _subject(local_config(tiny_model, tmp_path / "art"), artifacts, art_worker)

    @pytest.fixture
    def endless(
        self, art_worker: ARTWorkerHandle, artifacts: ArtifactStore, tiny_model: Path, tmp_path: Path
    ) -> Subject:
        slow = {"trainer_args": {"per_device_train_batch_size": 1}}
        return _subject(local_config(tiny_model, tmp_path / "slow", **slow), artifacts, art_worker)


def _subject(config: Any, artifacts: ArtifactStore, worker: ARTWorkerHandle) -> Subject:
    adapter = _adapter(config, artifacts, worker)
    values = {"run_id": "run", "config": config, "artifacts": artifacts.url}
    stored = {"train": put_rows(artifacts, adapter.rows(played(), config).train)}

    def spec(**changes: object) -> JobSpec:
        return JobSpec.model_validate({**values, **stored, "job_id": f"job-{uuid4().hex}", **changes})

    return Subject(adapter.backend, spec, [])


def _adapter(config: Any, artifacts: ArtifactStore, worker: ARTWorkerHandle) -> ARTTrainerAdapter:
    backend = ARTBackend(config, art_settings(), worker=worker)
    return ARTTrainerAdapter(config, artifacts=artifacts.url, backend=backend)
