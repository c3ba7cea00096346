"""The NeMo backend does what every backend does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.contract.test_trainer_adapter import TrainerAdapterContract
from tests.helpers.fake_nemo import ENDLESS, FakeNeMo, nemo_config, nemo_settings
from tunestream.trainers.nemo.adapter import NeMoCustomizerTrainerAdapter


@pytest.fixture(scope="module")
def server() -> Iterator[FakeNeMo]:
    fake = FakeNeMo().start()
    yield fake
    fake.stop()


class TestNeMoCustomizerTrainerAdapter(TrainerAdapterContract):
    @pytest_asyncio.fixture(loop_scope="session")
    async def adapter(self, server: FakeNeMo) -> AsyncIterator[NeMoCustomizerTrainerAdapter]:
        server.reset()
        adapter = NeMoCustomizerTrainerAdapter(nemo_config(server), settings=nemo_settings())
        yield adapter
        await adapter.close()

    @pytest_asyncio.fixture(loop_scope="session")
    async def endless(self, server: FakeNeMo) -> AsyncIterator[NeMoCustomizerTrainerAdapter]:
        server.reset()
        server.state.script = list(ENDLESS)
        adapter = NeMoCustomizerTrainerAdapter(nemo_config(server), settings=nemo_settings())
        yield adapter
        await adapter.close()
