"""The NeMo backend does what every backend does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from tests.contract.test_trainer_adapter import TrainerAdapterContract
from tests.helpers.fake_nemo import ENDLESS, FakeNeMo, nemo_config, nemo_settings
from tunestream.artifacts import ArtifactStore
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


@asynccontextmanager
async def _adapter(server: FakeNeMo, artifacts: ArtifactStore) -> AsyncIterator[NeMoCustomizerTrainerAdapter]:
    config = nemo_config(server)
    backend = NeMoBackend(config, nemo_settings())
    adapter = NeMoCustomizerTrainerAdapter(config, artifacts=artifacts.url, backend=backend)
    yield adapter
    await adapter.close()
    await backend.close()
