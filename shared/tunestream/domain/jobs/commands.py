"""Commands to the owner of a run: what each does to the ledger, and the answer."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, NamedTuple

from tunestream.domain.effects import Effects
from tunestream.domain.jobs.ledger import JobLedger
from tunestream.domain.jobs.lifecycle import TERMINAL
from tunestream.events.models import ModelVersion
from tunestream.events.training import ControlCommand, ControlResult, JobRecord, TrainingBatch

__all__ = ["obey"]


class _Outcome(NamedTuple):
    accepted: bool
    message: str
    job: str | None = None


def obey(
    ledger: JobLedger,
    command: ControlCommand,
    *,
    now: datetime,
    effects: Effects,
    backend: str | None = None,
) -> ControlResult:
    """Carry out a command and answer it; the answer is among the effects.

    Args:
        ledger: of the run's owner.
        command: what is asked.
        now: when.
        effects: what the command causes is added to them.
        backend: of the configuration that a submitted batch names; None when the run has none.
    """
    outcome = _carry_out(ledger, command, now, effects, backend)
    pointer = ledger.pointer(command.run_id)
    answer = ControlResult(
        run_id=command.run_id,
        command_id=command.command_id,
        accepted=outcome.accepted,
        reason=outcome.message,
        generation=None if pointer is None else pointer.generation,
        job_id=outcome.job,
    )
    ledger.answer(answer, now=now, effects=effects)
    return answer


def _carry_out(
    ledger: JobLedger, command: ControlCommand, now: datetime, effects: Effects, backend: str | None
) -> _Outcome:
    match command.action:
        case "submit":
            return _submit(ledger, command, now, effects, backend)
        case "cancel":
            return _cancel(ledger, command, now, effects)
        case "promote":
            return _promote(ledger, command, command.version, "promote", now, effects)
        case "rollback":
            pointer = ledger.pointer(command.run_id)
            previous = None if pointer is None else pointer.previous
            return _promote(ledger, command, command.version or previous, "rollback", now, effects)


def _submit(
    ledger: JobLedger, command: ControlCommand, now: datetime, effects: Effects, backend: str | None
) -> _Outcome:
    if command.batch is not None:
        return _submit_batch(ledger, command, command.batch, now, effects, backend)
    earlier = _find_batch(ledger, command)
    if earlier is None:
        name = f"batch {command.batch_id!r}" if command.batch_id else f"job {command.job_id!r}"
        return _Outcome(False, f"run {command.run_id!r} has no {name}")
    return _submit_batch(ledger, command, earlier.batch, now, effects, earlier.backend)


def _find_batch(ledger: JobLedger, command: ControlCommand) -> JobRecord | None:
    if command.batch_id is not None:
        return next(iter(ledger.submissions(command.run_id, command.batch_id)), None)
    return _find_job(ledger, command)


def _submit_batch(
    ledger: JobLedger,
    command: ControlCommand,
    batch: TrainingBatch,
    now: datetime,
    effects: Effects,
    backend: str | None,
) -> _Outcome:
    if batch.run_id != command.run_id:
        return _Outcome(False, f"the batch is of run {batch.run_id!r}, the command of {command.run_id!r}")
    if backend is None:
        return _Outcome(
            False,
            f"run {batch.run_id!r} has no configuration {batch.config_digest}; run `tunestream run apply`",
        )
    for job in ledger.submissions(batch.run_id, batch.batch_id):
        if job.status not in TERMINAL:
            return _Outcome(False, f"job {job.job_id} of this batch is {job.status.value}", job.job_id)
    made = ledger.submit(batch, backend=backend, now=now, effects=effects)
    return _Outcome(True, f"job {made.job_id} waits", made.job_id)


def _cancel(ledger: JobLedger, command: ControlCommand, now: datetime, effects: Effects) -> _Outcome:
    job = _find_job(ledger, command)
    if job is None:
        return _Outcome(False, f"run {command.run_id!r} has no job {command.job_id!r}")
    message = "canceled on command"
    if not ledger.cancel(job.job_id, code="canceled", message=message, now=now, effects=effects):
        return _Outcome(False, f"job {job.job_id} is {job.status.value} already", job.job_id)
    return _Outcome(True, "canceled", job.job_id)


def _find_job(ledger: JobLedger, command: ControlCommand) -> JobRecord | None:
    job = ledger.job(command.job_id or "")
    return job if job is not None and job.run_id == command.run_id else None


def _promote(
    ledger: JobLedger,
    command: ControlCommand,
    version: str | None,
    cause: Literal["promote", "rollback"],
    now: datetime,
    effects: Effects,
) -> _Outcome:
    pointer = ledger.pointer(command.run_id)
    generation = 0 if pointer is None else pointer.generation
    if command.expected_generation not in {None, generation}:
        expected = command.expected_generation
        return _Outcome(False, f"the generation is {generation}, the command expected {expected}")
    if version is None:
        return _Outcome(False, "name a version: the run has no earlier one")
    found = ledger.versions(command.run_id).get(version)
    if found is None:
        return _Outcome(False, f"run {command.run_id!r} has no version {version!r}")
    if pointer is not None and pointer.version == version:
        return _Outcome(True, f"version {version} is current already")
    objection = None if command.force else _objection(found)
    if objection is not None:
        return _Outcome(False, objection)
    ledger.point(command.run_id, version, cause=cause, now=now, effects=effects)
    return _Outcome(True, f"version {version} is current")


def _objection(version: ModelVersion) -> str | None:
    """Return why a version can be promoted by force only; None when it needs no force."""
    name, remedy = f"version {version.version}", "promote it by force to take it anyway"
    if version.rolled_back is not None:
        return f"{name} was rolled back automatically: {version.rolled_back}; {remedy}"
    if version.evaluation is not None and version.evaluation.verdict == "rejected":
        return f"{name} was rejected by its evaluation; {remedy}"
    return None
