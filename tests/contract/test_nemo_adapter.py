"""The NeMo backend does what every backend does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from tests.contract.test_backend_port import BackendContract, Subject
from tests.contract.test_trainer_adapter import TrainerAdapterContract
from tests.helpers.fake_nemo import ENDLESS, FakeNeMo, nemo_config, nemo_settings
from tests.helpers.tiny_model import rows
from tunestream.artifacts import ArtifactStore, put_rows
from tunestream.trainers import JobSpec
from tunestream.trainers.nemo.backend import NeMoBackend, NeMoCustomizerTrainerAdapter


@pytest.fixture(scope="module")
def server() -> Iterator[FakeNeMo]:
    fake = FakeNeMo().start()
    yield fake
    fake.stop()


class TestNeMoCustomizerTrainerAdapter(TrainerAdapterContract):
    @pytest_asyncio.fixture(loop_scope="session")
    async def adapter(
        self, server: FakeNeMo, artifacts: ArtifactStore
    ) -> AsyncIterator[NeMoCustomizerTrainerAdapter]:
        server.reset()
        async with _adapter(server, artifacts) as adapter:
            yield adapter

    @pytest_asyncio.fixture(loop_scope="session")
    async def endless(
        self, server: FakeNeMo, artifacts: ArtifactStore
    ) -> AsyncIterator[NeMoCustomizerTrainerAdapter]:
        server.reset()
        server.state.script = list(ENDLESS)
        async with _adapter(server, artifacts) as adapter:
            yield adapter


class TestPort(BackendContract):
    @pytest_asyncio.fixture(loop_scope="session")
    async def subject(self, server: FakeNeMo, artifacts: ArtifactStore) -> AsyncIterator[Subject]:
        server.reset()
        async with _subject(server, artifacts) as subject:
            yield subject

    @pytest_asyncio.fixture(loop_scope="session")
    async def endless(self, artifacts: ArtifactStore) -> AsyncIterator[Subject]:
        server = FakeNeMo().start()
        server.state.script = list(ENDLESS)
        async with _subject(server, artifacts) as subject:
            yield subject
        server.stop()


@asynccontextmanager
async def _subject(server: FakeNeMo, artifacts: ArtifactStore) -> AsyncIterator[Subject]:
    config = nemo_config(server)
    values = {"run_id": "run", "config": config, "artifacts": artifacts.url}
    stored = {"train": put_rows(artifacts, rows(16))}
    count = iter(range(1000))

    def spec(**changes: object) -> JobSpec:
        return JobSpec.model_validate({**values, **stored, "job_id": f"job-{next(count)}", **changes})

    backend = NeMoBackend(config, nemo_settings())
    yield Subject(backend, spec, [])
    await backend.close()


@asynccontextmanager
async def _adapter(server: FakeNeMo, artifacts: ArtifactStore) -> AsyncIterator[NeMoCustomizerTrainerAdapter]:
    config = nemo_config(server)
    backend = NeMoBackend(config, nemo_settings())
    adapter = NeMoCustomizerTrainerAdapter(config, artifacts=artifacts.url, backend=backend)
    yield adapter
    await adapter.close()
    await backend.close()
