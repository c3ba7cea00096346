"""The loops of the runtime: nothing that they meet ends them, and one that has ended is shown."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from tests.helpers.counting import Board, plan
from tunestream.config.settings import KafkaSettings, ServiceSettings
from tunestream.streams.runtime.lifecycle import Stage
from tunestream.streams.runtime.runtime import Runtime
from tunestream.streams.tasks.partitions import Partitions


def new_runtime() -> Runtime:
    stage = Stage()
    stage.waiting = None
    return Runtime(plan(KafkaSettings(), Board()), ServiceSettings(), stage)


async def test_a_loop_that_has_ended_is_a_reason_and_no_life(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = asyncio.Event()

    async def run_idle(_: Runtime) -> None:
        ended.set()
        raise KeyError("gone")

    monkeypatch.setattr(Runtime, "_run_idle", run_idle)
    async with new_runtime() as runtime:
        await ended.wait()
        await asyncio.sleep(0)
        live, ready = runtime.live(), await runtime.ready()
    assert (live.ok, live.reasons) == (False, ("loop idle pair-builder ended: KeyError: 'gone'",))
    assert live.reasons[0] in ready.reasons


async def test_what_a_handler_raises_when_it_is_looked_at_is_a_fault_of_its_partition(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gauges() -> dict[str, float]:
        raise RuntimeError("no gauge")

    recovered: list[tuple[Any, Exception]] = []

    async def recover(_: Partitions, task: Any, error: Exception) -> None:
        recovered.append((task, error))

    monkeypatch.setattr(Partitions, "recover", recover)
    task: Any = SimpleNamespace(partition=3, handler=SimpleNamespace(gauges=gauges))
    await new_runtime()._idle_one(task, now=0.0)
    ((found, error),) = recovered
    assert (found, str(error)) == (task, "no gauge")
