"""A child process and its owner, whatever the child does: real processes, and no torch."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.helpers.child_runner import (
    PROGRAM,
    REPLIES,
    Echo,
    Exit,
    Input,
    Large,
    MakeFile,
    Raise,
    Reply,
    Spawn,
    Text,
    Think,
)
from tunestream.events.base import Wire
from tunestream.trainers import TrainingFailed
from tunestream.trainers.worker.calls import ask
from tunestream.trainers.worker.lines import CallRefused
from tunestream.trainers.worker.process import ChildProcess, WorkerDied, WorkerSilent
from tunestream.trainers.worker.settings import WorkerSettings

pytestmark = pytest.mark.timeout(300)
Child = ChildProcess[Reply]
Make = Callable[..., Child]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Make children of the test program; the program's and the settings' fields may differ."""
    children: list[Child] = []

    def _make(keep: Callable[[str], None] = lambda _: None, **changes: Any) -> Child:
        of_program = {name: changes.pop(name) for name in changes.keys() & PROGRAM.__slots__}
        program = replace(PROGRAM, **of_program)
        children.append(ChildProcess(program, REPLIES, WorkerSettings(**changes), keep=keep))
        return children[-1]

    yield _make
    for child in children:
        await child.kill()


async def text_of(child: Child, call: Wire, **limits: float) -> str:
    reply = await ask(child, call, **limits)
    assert isinstance(reply, Text), reply
    return reply.text


async def gone(pid: int) -> None:
    process = psutil.Process(pid)
    _, alive = await asyncio.to_thread(psutil.wait_procs, [process], 90)
    assert alive == []


async def test_a_child_is_warm_and_answers_call_by_call(make: Make) -> None:
    child = make()
    assert child.pid is None
    assert await text_of(child, Echo(text="zwölf\nlines")) == "zwölf\nlines"
    pid = child.pid
    assert await text_of(child, Input()) == "", "a library cannot read the owner's line"
    refused = await ask(child, Text(text="no call"))
    assert isinstance(refused, CallRefused)
    assert refused.code == "unreadable_call"
    made = Path(await text_of(child, MakeFile()))
    assert await asyncio.to_thread(made.exists)
    assert child.pid == pid

    await child.close()
    assert child.pid is None
    assert not await asyncio.to_thread(made.parent.exists)
    assert await text_of(child, Echo(text="again")) == "again"
    assert child.pid != pid


async def test_starting_twice_at_once_starts_one(make: Make) -> None:
    child = make()
    await asyncio.gather(child.start(), child.start())
    children = [one for one in psutil.Process().children() if PROGRAM.runner in " ".join(one.cmdline())]
    assert [one.pid for one in children] == [child.pid]


async def test_what_is_printed_is_passed_on_without_secrets(
    make: Make, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JUDGE_API_KEY", "open-sesame-please")
    kept: list[str] = []
    child = make(kept.append)
    printed = "a line with open-sesame-please\n\n" + "y" * 200_000
    assert await text_of(child, Echo(text="", printed=printed)) == ""
    await child.close()
    assert kept.count("a line with [redacted]") == 2, "of standard output and of standard error"
    assert "".join(kept).count("y") >= 400_000
    assert "" not in kept
    errors = capfd.readouterr().err
    assert "a line with [redacted]" in errors
    assert "sesame" not in errors


async def test_a_large_answer_passes_up_to_the_programs_limit(make: Make) -> None:
    child = make(longest_message=1 << 24)
    assert len(await text_of(child, Large(characters=10_000_000))) == 10_000_000
    with pytest.raises(WorkerDied, match="the child sent a message of more than 1048576 bytes"):
        await ask(make(), Large(characters=3_000_000))


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (Exit(code=7), "the child ended with 7; its log has the reason"),
        (Raise(message="no reason"), "the child ended with 1; its log has the reason"),
    ],
)
async def test_a_child_that_ends_in_mid_call_is_reported_and_started_anew(
    make: Make, call: Wire, reason: str
) -> None:
    kept: list[str] = []
    child = make(kept.append)
    with pytest.raises(WorkerDied) as death:
        await ask(child, call)
    assert str(death.value) == reason
    if isinstance(call, Raise):
        assert "RuntimeError: no reason" in kept
    assert await text_of(child, Echo(text="again")) == "again"


@pytest.mark.parametrize(
    ("number", "reason"), [(signal.SIGKILL, "killed by signal 9; if nobody"), (signal.SIGTERM, "signal 15")]
)
async def test_a_killed_child_is_reported(make: Make, number: signal.Signals, reason: str) -> None:
    child = make()
    await child.start()
    asking = asyncio.create_task(ask(child, Think(seconds=600)))
    await asyncio.sleep(0)
    assert child.pid is not None
    os.kill(child.pid, number)
    with pytest.raises(WorkerDied, match=reason):
        await asking


async def test_both_give_signs_of_life_while_a_call_takes_long(make: Make) -> None:
    child = make(heartbeat_timeout=2.0)  # without a sign of its owner it would end before its thought does
    assert await text_of(child, Think(seconds=6.0), silence=4.0) == "thought"


async def test_a_frozen_child_is_killed(make: Make) -> None:
    child = make()
    await child.start()
    pid = child.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(WorkerSilent, match=r"the child gave no sign of life for 0\.3 s and was killed"):
        await ask(child, Echo(text="frozen"), silence=0.3)
    assert not psutil.pid_exists(pid)


async def test_an_answer_that_takes_too_long_is_not_taken_for_another(make: Make) -> None:
    child = make()
    with pytest.raises(TimeoutError):
        await ask(child, Think(seconds=600), within=0.3)
    assert child.pid is None
    assert await text_of(child, Echo(text="mine")) == "mine"


async def test_a_child_that_does_not_start_in_time_is_killed(make: Make) -> None:
    child = make(start_timeout=0.001)
    with pytest.raises(WorkerSilent, match=r"no sign of life for 0\.001 s"):
        await child.start()
    assert child.pid is None


async def test_a_runner_that_cannot_be_imported_is_reported(make: Make) -> None:
    kept: list[str] = []
    with pytest.raises(WorkerDied, match="ended with 1"):
        await make(kept.append, runner="tests.helpers.nowhere").start()
    assert any("No module named 'tests.helpers.nowhere'" in line for line in kept)


async def test_what_is_not_installed_is_named_before_anything_starts(make: Make) -> None:
    with pytest.raises(TrainingFailed, match=r"needs torch_of_tomorrow: pip install 'tunestream\[trl\]'"):
        await make(needs=("json", "torch_of_tomorrow"), extra="trl").start()
    with pytest.raises(TrainingFailed, match="there is no interpreter /nowhere/python"):
        await make(python="/nowhere/python").start()


async def test_what_a_child_started_is_killed_with_it_where_its_program_wants_that(make: Make) -> None:
    child = make(ends_children=True)
    started = psutil.Process(int(await text_of(child, Spawn())))
    await child.kill()
    await gone(started.pid)


async def test_a_child_of_one_call_ends_by_itself(make: Make) -> None:
    child = make(serves="call")
    assert await text_of(child, Echo(text="once")) == "once"
    async with asyncio.timeout(90):
        await child.ended()
    assert child.pid is None


async def test_a_stubborn_child_is_killed_when_it_is_closed(make: Make) -> None:
    child = make(close_timeout=0.3)
    await child.start()
    pid = child.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    await child.close()
    assert not psutil.pid_exists(pid)


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


async def _alone(scratch: Path, heartbeat_timeout: str) -> asyncio.subprocess.Process:
    """Start a child whose owner is this test."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tunestream.trainers.worker.main"),
        *("--serves", "calls", "--runner", PROGRAM.runner),
        *("--heartbeat-timeout", heartbeat_timeout, "--scratch", str(scratch)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )


async def test_a_silent_owner_is_left(scratch: Path) -> None:
    child = await _alone(scratch, "0.2")
    async with asyncio.timeout(90):
        assert await child.wait() == 3
    assert not await asyncio.to_thread(scratch.exists)


@pytest.mark.parametrize("busy", [False, True])
async def test_a_child_ends_when_its_owners_pipe_closes(scratch: Path, busy: bool) -> None:
    child = await _alone(scratch, "600")
    assert child.stdin is not None
    assert child.stdout is not None
    assert await child.stdout.readline() == b'{"type":"ready"}\n'
    if busy:
        child.stdin.write(Think(seconds=600).to_json() + b"\n")
        assert await child.stdout.readline() == b'{"type":"heartbeat"}\n'
    child.stdin.close()
    async with asyncio.timeout(90):
        assert await child.wait() == 3
    assert not await asyncio.to_thread(scratch.exists)
