"""The loops of the runtime: nothing that they meet ends them, and one that has ended is shown."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.helpers.counting import Board, plan
from tunestream.config.settings import KafkaSettings, ServiceSettings
from tunestream.streams.runtime.lifecycle import Stage
from tunestream.streams.runtime.runtime import Runtime
from tunestream.streams.runtime.silence import Silence
from tunestream.streams.tasks.partitions import Partitions
from tunestream.streams.tasks.state import State
from tunestream.streams.tasks.task import Task
from tunestream.streams.watch.measuring import Measures


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


async def test_what_a_handler_warns_of_is_shown_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan(KafkaSettings(), Board())
    task = Task(made, 3, lambda _task, _error: None)
    task._state = State(made.new_handler(3), skipped={b"key": "not JSON"})
    monkeypatch.setattr(type(task.handler), "warnings", lambda _self: ["it is slow"])
    monkeypatch.setattr(Partitions, "at_work", lambda _self: [task])
    passed_over = f"the latest record of {b'key'!r} in {made.changelog} was passed over: not JSON"
    assert new_runtime().warnings() == ["partition 3: it is slow", f"partition 3: {passed_over}"]


class FakeTask:
    """A task of which a test decides how long its silence takes."""

    def __init__(
        self, number: int, hangs: asyncio.Event | None = None, fault: Exception | None = None
    ) -> None:
        self.partition = number
        self.handler, self.refusals, self.inputs = self, self, self
        self.ticks = 0
        self._hangs = hangs
        self._fault = fault

    def gauges(self) -> dict[str, float]:
        if self._fault is not None:
            raise self._fault
        return {}

    def report(self) -> None: ...

    def idle_due(self, now: float) -> bool:
        return now >= 0

    async def caught_up(self, *_: object) -> bool:
        return True

    async def idle(self, now: float) -> None:
        assert now >= 0
        if self._hangs is not None:
            await self._hangs.wait()
        self.ticks += 1


@dataclass
class FakePartitions:
    """Tasks that are open, and what was given to be recovered."""

    tasks: list[FakeTask]
    recovered: list[tuple[FakeTask, str]] = field(default_factory=list)
    broken: bool = False

    def at_work(self) -> list[FakeTask]:
        return self.tasks

    async def recover(self, task: FakeTask, error: Exception) -> None:
        if self.broken:
            raise KeyError("no recovery")
        self.recovered.append((task, str(error)))


def silence(partitions: FakePartitions) -> Silence:
    nothing: Any = ()
    measures: Any = Measures("unit-silence", ())
    tasks: Any = partitions
    return Silence(tasks, nothing, measures, lambda: nothing, nothing)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_task_that_waits_holds_up_the_ticks_of_no_other() -> None:
    hangs = asyncio.Event()
    waiting, going = FakeTask(0, hangs), FakeTask(1)
    looks = silence(FakePartitions([waiting, going]))
    for now in range(3):
        looks.look(float(now))
        await settled()
    assert (waiting.ticks, going.ticks) == (0, 3)
    hangs.set()
    await settled()
    looks.look(3.0)
    await settled()
    assert (waiting.ticks, going.ticks) == (2, 4)


async def test_what_is_under_way_at_the_end_is_given_up() -> None:
    waiting = FakeTask(0, asyncio.Event())
    looks = silence(FakePartitions([waiting]))
    looks.look(0.0)
    await settled()
    await looks.stop()
    assert waiting.ticks == 0
    looks.look(1.0)  # being cancelled is no failure
    await looks.stop()


async def test_what_a_handler_raises_when_it_is_looked_at_is_a_fault_of_its_partition() -> None:
    broken, going = FakeTask(3, fault=RuntimeError("no gauge")), FakeTask(1)
    partitions = FakePartitions([broken, going])
    looks = silence(partitions)
    looks.look(0.0)
    await settled()
    assert (partitions.recovered, going.ticks) == ([(broken, "no gauge")], 1)


async def test_what_cannot_be_recovered_ends_the_loop_which_is_shown() -> None:
    looks = silence(FakePartitions([FakeTask(3, fault=RuntimeError("no gauge"))], broken=True))
    looks.look(0.0)
    await settled()
    with pytest.raises(KeyError, match="no recovery"):
        looks.look(1.0)
