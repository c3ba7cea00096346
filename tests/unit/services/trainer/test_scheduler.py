"""The loop that runs jobs, without any."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunestream.artifacts import ArtifactStore
from tunestream_services.trainer.scheduler import Scheduler
from tunestream_services.trainer.settings import TrainerSettings


class NoRuns:
    """A directory without runs."""

    def watch(self, _wake: Callable[[], None]) -> None:
        pass

    def all_current(self) -> list[Any]:
        return []


@pytest.mark.parametrize("ticks", range(6))
async def test_it_ends_also_while_it_is_woken(ticks: int, tmp_path: Path) -> None:
    runs: Any = NoRuns()
    async with asyncio.timeout(90), Scheduler(runs, ArtifactStore(str(tmp_path)), TrainerSettings()) as it:
        for _ in range(5):
            await asyncio.sleep(0)
        it.wake()
        for _ in range(ticks):
            await asyncio.sleep(0)
