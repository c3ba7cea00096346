"""Reports between a backend and the ledger."""

from __future__ import annotations

import asyncio
import time

import pytest

from tunestream.trainers import Checkpoint, Progress
from tunestream_services.trainer.mailbox import Mailbox


async def test_the_latest_progress_counts_with_the_latest_checkpoint() -> None:
    mailbox = Mailbox()
    assert mailbox.take() is None
    mailbox.put(Checkpoint(step=3))
    assert mailbox.take() is None, "a checkpoint comes with the next progress"
    for step in range(5):
        mailbox.put(Progress(phase="training", step=step, total=5))
    await mailbox.wait()
    standing = mailbox.take()
    assert standing is not None
    assert (standing.progress.step, standing.checkpoint) == (4, 3)
    assert mailbox.take() is None


async def test_a_status_that_follows_another_at_once_is_not_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunestream_services.trainer.mailbox._PACE_SECONDS", 3600.0)
    mailbox = Mailbox()
    mailbox.put(Progress(percent=1.0))
    assert mailbox.take() is not None
    mailbox.put(Progress(percent=2.0))
    assert mailbox.take() is None


async def test_statuses_of_a_job_have_a_pace() -> None:
    mailbox = Mailbox()
    mailbox.put(Progress(percent=1.0))
    taken = time.monotonic()
    assert mailbox.take() is not None
    mailbox.put(Progress(percent=2.0))
    await asyncio.wait_for(mailbox.wait(), 90)
    assert time.monotonic() - taken >= 0.09
    assert mailbox.take() is not None
