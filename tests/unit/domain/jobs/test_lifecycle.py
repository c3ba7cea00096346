"""The life of a job, as a machine that takes any order of commands."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.helpers.batches import batch
from tunestream.domain.jobs import lifecycle
from tunestream.events.training import JobRecord, TrainingStatusEnum

START = datetime(2026, 1, 1, tzinfo=UTC)
# The states a job may go to, written down apart from the code.
ALLOWED = {
    "pending": {"running", "failed", "canceled"},
    "running": {"running", "completed", "failed", "canceled"},
    "completed": set(),
    "failed": set(),
    "canceled": set(),
}


class JobLife(RuleBasedStateMachine):
    @initialize()
    def create(self) -> None:
        self.now = START
        self.job, status = lifecycle.create(batch(), backend="trl", now=self.now)
        self.statuses = [status]
        self.records = [self.job]

    def take(self, step: lifecycle.JobStep) -> None:
        self.job = step.record
        self.statuses.append(step.status)
        self.records.append(step.record)

    def attempt_step(self, target: str, act: object) -> None:
        self.now += timedelta(seconds=1)
        if target in ALLOWED[self.job.status]:
            self.take(act())  # type: ignore[operator]
        else:
            with pytest.raises(lifecycle.InvalidTransition):
                act()  # type: ignore[operator]

    @rule(parent=st.sampled_from([None, "v1", "v2"]))
    def start(self, parent: str | None) -> None:
        before = self.job
        self.attempt_step("running", lambda: lifecycle.start(before, parent_version=parent, now=self.now))
        if before.status == "running":
            assert self.job.parent_version == before.parent_version
        if self.job is not before:
            assert self.job.attempt == before.attempt + 1

    @rule(progress=st.floats(-1e9, 1e9))
    def report(self, progress: float) -> None:
        def act() -> lifecycle.JobStep:
            return lifecycle.report(
                self.job, progress=progress, message="m", metrics={"loss": 1.0}, now=self.now
            )

        if self.job.status == "pending":
            with pytest.raises(lifecycle.InvalidTransition):
                act()
        else:
            self.attempt_step("running", act)

    @rule()
    def break_off(self) -> None:
        if self.job.status == "pending":
            with pytest.raises(lifecycle.InvalidTransition):
                lifecycle.break_off(self.job, code="c", message="m", now=self.now)
        elif self.job.attempt not in {broken.attempt for broken in self.job.broken}:
            self.attempt_step(
                "running", lambda: lifecycle.break_off(self.job, code="c", message="m", now=self.now)
            )

    @rule()
    def complete(self) -> None:
        self.attempt_step(
            "completed",
            lambda: lifecycle.complete(self.job, version="v", message="m", metrics={}, now=self.now),
        )

    @rule()
    def fail(self) -> None:
        self.attempt_step("failed", lambda: lifecycle.fail(self.job, code="c", message="m", now=self.now))

    @rule()
    def cancel(self) -> None:
        self.attempt_step("canceled", lambda: lifecycle.cancel(self.job, code="c", message="m", now=self.now))

    @invariant()
    def statuses_count_without_gaps(self) -> None:
        assert [status.sequence for status in self.statuses] == list(range(len(self.statuses)))

    @invariant()
    def progress_is_bounded_and_never_falls(self) -> None:
        seen = [status.progress for status in self.statuses if status.progress is not None]
        assert seen == sorted(seen)
        assert all(0.0 <= value <= 100.0 for value in seen)

    @invariant()
    def every_attempt_but_the_latest_broke_off_once(self) -> None:
        broken = [one.attempt for one in self.job.broken]
        assert broken in (list(range(1, self.job.attempt)), list(range(1, self.job.attempt + 1)))

    @invariant()
    def only_the_last_status_is_terminal(self) -> None:
        assert not any(status.status in lifecycle.TERMINAL for status in self.statuses[:-1])

    @invariant()
    def only_a_completed_job_has_a_version(self) -> None:
        assert (self.job.version is not None) == (self.job.status is TrainingStatusEnum.COMPLETED)

    @invariant()
    def record_and_status_agree_and_travel(self) -> None:
        status = self.statuses[-1]
        assert (status.status, status.sequence, status.progress, status.message, status.time) == (
            self.job.status,
            self.job.sequence,
            self.job.progress,
            self.job.message,
            self.job.updated,
        )
        assert JobRecord.model_validate_json(self.job.to_json()) == self.job


TestJobLife = JobLife.TestCase
TestJobLife.settings = settings(max_examples=60, stateful_step_count=20)


def test_a_batch_delivered_twice_names_one_job() -> None:
    first = lifecycle.create(batch(), backend="trl", now=START).record
    again = lifecycle.create(batch(), backend="trl", now=START + timedelta(hours=1)).record
    assert first.job_id == again.job_id
    assert first.job_id != lifecycle.create(batch("other"), backend="trl", now=START).record.job_id


def test_a_reason_is_found_by_machines() -> None:
    job = lifecycle.create(batch(), backend="trl", now=START).record
    status = lifecycle.cancel(job, code="stale", message="lag 5 is above 4", now=START).status
    assert status.metadata == {"reason": "stale"}
    assert status.message == "lag 5 is above 4"


def test_the_reasons_of_broken_attempts_are_told_and_kept() -> None:
    job = lifecycle.create(batch(), backend="trl", now=START).record
    job = lifecycle.start(job, parent_version=None, now=START).record
    job, told = lifecycle.break_off(job, code="worker_died", message="no sign of life for 60 s", now=START)
    assert told.message == "attempt 1 broke off: no sign of life for 60 s"
    assert told.metadata == {"broken_attempt": 1, "broken_by": "worker_died"}
    for _ in range(2):  # the second attempt ends without a word
        job = lifecycle.start(job, parent_version=None, now=START).record
    assert [(one.attempt, one.code) for one in job.broken] == [(1, "worker_died"), (2, lifecycle.OWNER_DIED)]
    job, _ = lifecycle.break_off(job, code="worker_died", message="killed", now=START)
    failed = lifecycle.fail(job, code="worker_died", message="killed", now=START).status
    assert failed.message == "killed (broken off before: attempt 1 as worker_died, attempt 2 as owner_died)"
