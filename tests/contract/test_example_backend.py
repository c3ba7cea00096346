"""The documented example of a trainer of one's own does what every backend does."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.contract.test_trainer_adapter import TrainerAdapterContract, collection
from tests.helpers.trainer_plugin import EXAMPLES, install_trainer, training_command
from tunestream.artifacts import ArtifactStore
from tunestream.config.run.run import RunConfig
from tunestream.config.run.trainers import TrainerSection
from tunestream.events.training import TrainingStatusEnum
from tunestream.trainers import TrainerAdapter, TrainingFailed, TrainingResult, check_backend


@pytest.fixture(scope="module", autouse=True)
def _installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for place in install_trainer(tmp_path_factory.mktemp("site-packages")):
            patch.syspath_prepend(place)
        yield


def section(command: list[str]) -> TrainerSection:
    """The trainer section of a run's file, found by its ``_type``."""
    config = RunConfig.model_validate({"run_id": "r", "trainer": {"_type": "command", "command": command}})
    return config.trainer


class TestCommandAdapter(TrainerAdapterContract):
    @pytest_asyncio.fixture(loop_scope="session")
    async def adapter(self, artifacts: ArtifactStore, tmp_path: Path) -> AsyncIterator[TrainerAdapter]:
        config = section(training_command(tmp_path))
        adapter = TrainerAdapter(config, artifacts=artifacts.url)
        yield adapter
        await adapter.close()

    @pytest_asyncio.fixture(loop_scope="session")
    async def endless(self, artifacts: ArtifactStore) -> AsyncIterator[TrainerAdapter]:
        config = section([sys.executable, "-c", "import time; time.sleep(3600)"])
        adapter = TrainerAdapter(config, artifacts=artifacts.url)
        yield adapter
        await adapter.close()

    async def test_it_writes_a_model(
        self, adapter: TrainerAdapter, artifacts: ArtifactStore, tmp_path: Path
    ) -> None:
        status = await adapter.wait_until_complete(await adapter.submit(collection()))
        weights = TrainingResult.model_validate(status.metadata).artifact
        folder = artifacts.fetch_directory(weights.uri, weights.sha256, tmp_path / "model")
        assert json.loads((folder / "preferences.json").read_text())["rows"] == 32

    async def test_a_command_that_fails_fails_its_job(self, artifacts: ArtifactStore) -> None:
        config = section([sys.executable, "-c", "raise SystemExit(7)"])
        adapter = TrainerAdapter(config, artifacts=artifacts.url)
        status = await adapter.wait_until_complete(await adapter.submit(collection()))
        assert (status.status, status.metadata) == (TrainingStatusEnum.FAILED, {"reason": "command_failed"})
        assert "exited with 7" in (status.message or "")

    async def test_a_missing_command_is_not_healthy(self, artifacts: ArtifactStore) -> None:
        with pytest.raises(TrainingFailed, match="there is no command no-such-command"):
            await check_backend(section(["no-such-command"]), artifacts.url)
        await check_backend(section([sys.executable]), artifacts.url)


def test_it_is_as_short_as_promised_and_shown_as_it_is() -> None:
    code = (EXAMPLES / "trainer_backend.py").read_text("utf-8")
    assert len(code.splitlines()) < 60
    assert code in (EXAMPLES.parent / "docs" / "training.md").read_text("utf-8")
