"""Fixtures and settings of what ART trains: one warm worker for the whole session."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from tests.helpers.fake_art import FakeART
from tests.helpers.tiny_model import UNTRAINED, WORDS, episodes
from tunestream.events.trajectories import EpisodeItem, EpisodeItemRole, Trajectory, TrajectoryCollection
from tunestream.trainers.art.config import ARTTrainerAdapterConfig
from tunestream.trainers.art.settings import ARTSettings
from tunestream.trainers.art.worker import ARTWorkerHandle

ON_CPU: Final = {"device": "cpu"}
"""The ``init_args`` of a job that trains on the CPU: see :mod:`tests.helpers.art_cpu_runner`."""

__all__ = ["ON_CPU", "art_config", "art_service", "art_settings", "art_worker", "local_config", "played"]


def art_settings(**changes: Any) -> ARTSettings:
    """Settings that look often and lose patience soon."""
    patience = {
        "retry_delay": 0.01,
        "retry_max_delay": 0.02,
        "request_timeout": 10.0,
        "poll_interval": 0.02,
        "unreachable_timeout": 0.5,
        "lost_timeout": 0.5,
        "silent_timeout": 2.0,
        "pull_timeout": 20.0,
        "start_timeout": 900.0,
        "heartbeat_timeout": 60.0,
        "silence_timeout": 300.0,
    }
    return ARTSettings(**{**patience, **changes})


_WORKER = ARTWorkerHandle(
    art_settings(), runner="tests.helpers.art_cpu_runner"
)  # shared by all modules that import the fixture


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def art_worker() -> AsyncIterator[ARTWorkerHandle]:
    await _WORKER.start()
    yield _WORKER
    await _WORKER.close()


@pytest.fixture(scope="session")
def art_service() -> Iterator[FakeART]:
    fake = FakeART().start()
    yield fake
    fake.stop()


def art_config(service: FakeART, training: dict[str, Any] | None = None, **backend: Any) -> Any:
    """A configuration for the fake service."""
    where = {"base_url": f"{service.url}/v1", "pull_checkpoints": False, **backend}
    return ARTTrainerAdapterConfig.model_validate({"backend": where, "training": training})


def local_config(model: Path, path: Path, training: dict[str, Any] | None = None, **backend: Any) -> Any:
    """A configuration that learns the tiny task on the CPU."""
    here = {
        "kind": "local",
        "init_args": ON_CPU,
        "base_model": str(model),
        "path": str(path),
        "trainer_args": {"per_device_train_batch_size": 16, "max_grad_norm": 1.0},
        **backend,
    }
    quick = {"learning_rate": 2e-2, "loss_fn": "ppo", **(training or {})}
    return ARTTrainerAdapterConfig.model_validate({"backend": here, "training": quick})


def played(groups: int = 4, *, size: int = 6, seed: int = 0, run_id: str = "run") -> TrajectoryCollection:
    """Episodes of the tiny task, with the ids of their tokens, as a vLLM server records them."""
    found: dict[str, list[Trajectory]] = {}
    for row in episodes(groups, size, seed=seed):
        items = [_with_ids(item) for item in row.items]
        found.setdefault(row.group_id, []).append(Trajectory(episode=items, reward=row.reward))
    return TrajectoryCollection(trajectories=list(found.values()), run_id=run_id)


def _with_ids(item: EpisodeItem) -> EpisodeItem:
    if item.role is not EpisodeItemRole.ASSISTANT:
        return item
    token = {"token": f"token_id:{WORDS.index(item.content)}", "logprob": UNTRAINED}
    return item.model_copy(update={"logprobs": {"content": [token]}})
