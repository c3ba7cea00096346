"""The owner's side of a worker, with a process that is none."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.scripted_backend import spec_of
from tunestream.events.base import Wire
from tunestream.trainers.worker.handle import WorkerHandle
from tunestream.trainers.worker.process import ChildProcess
from tunestream.trainers.worker.program import Program
from tunestream.trainers.worker.protocol import REPORTS

PROGRAM = Program(runner="nothing")


async def test_a_worker_that_may_have_got_a_job_in_vain_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sending, killed = asyncio.Event(), 0

    class Process(ChildProcess[Any]):
        async def start(self) -> None:
            pass

        async def send(self, message: Wire) -> None:
            del message
            sending.set()
            await asyncio.Event().wait()

        async def kill(self) -> None:
            nonlocal killed
            killed += 1

    handle = WorkerHandle(program=PROGRAM)
    monkeypatch.setattr(handle, "_process", Process(PROGRAM, REPORTS))
    running = asyncio.ensure_future(anext(handle.run(spec_of(tmp_path))))
    await sending.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert killed == 1


@pytest.mark.parametrize("ticks", range(6))
async def test_whoever_reads_can_be_canceled_while_a_message_comes(
    ticks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    process: ChildProcess[Any] = ChildProcess(PROGRAM, REPORTS)
    stdout = asyncio.StreamReader()
    monkeypatch.setattr(process, "_process", _Started(stdout))
    reader = asyncio.create_task(_read_for_ever(process))
    for _ in range(5):
        await asyncio.sleep(0)
    stdout.feed_data(b'{"type":"progress","job_id":"job"}\n')
    for _ in range(ticks):
        await asyncio.sleep(0)
    reader.cancel()
    await asyncio.wait({reader}, timeout=30)
    assert reader.cancelled()


class _Started:
    """A process that lives."""

    pid, returncode, stdin = 1, None, None

    def __init__(self, stdout: asyncio.StreamReader) -> None:
        self.stdout = stdout


async def _read_for_ever(process: ChildProcess[Any]) -> None:
    while True:
        await process.receive(60.0)
