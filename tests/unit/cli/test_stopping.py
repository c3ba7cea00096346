"""Signals end work in order."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from tunestream.cli.stopping import until_stopped


async def test_work_that_ends_gives_its_result() -> None:
    async def work() -> int:
        return 3

    assert await until_stopped(work()) == 3


async def test_an_error_of_the_work_is_raised() -> None:
    async def work() -> None:
        raise ValueError("it failed")

    with pytest.raises(ValueError, match="it failed"):
        await until_stopped(work())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_cancels_the_work_which_cleans_up(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = []

    async def work() -> int:
        try:
            os.kill(os.getpid(), number)
            await asyncio.Event().wait()
            return 3
        finally:
            await asyncio.sleep(0)
            steps.append("clean")

    assert await until_stopped(work()) is None
    assert steps == ["clean"]
    assert capsys.readouterr().err.splitlines() == ["stopping", "everything has stopped"]


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """Leave the signals of the test session as they were."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
