"""The trainer's ledger: what races, and what commits together."""

from __future__ import annotations

from datetime import UTC, datetime

from tunestream.domain.effects import Effects
from tunestream.domain.jobs.commands import obey
from tunestream.domain.jobs.ledger import JobLedger
from tunestream.events.ids import job_id, version_id
from tunestream.events.models import Artifact, CurrentModel, Evaluation, ModelStatus, ModelVersion
from tunestream.events.training import (
    ControlCommand,
    ControlResult,
    CurriculumState,
    DatasetFile,
    JobRecord,
    Objective,
    TrainingBatch,
    TrainingJobStatus,
    TrainingStatusEnum,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WEIGHTS = Artifact(uri="artifact://trees/1", sha256="1" * 64, kind="adapter")

UNEVALUATED = Evaluation(items=0, verdict="unevaluated")
REJECTED = Evaluation(items=50, difference=-0.2, low=-0.3, high=-0.1, verdict="rejected")


def _batch(number: int = 0) -> TrainingBatch:
    return TrainingBatch(
        run_id="run",
        batch_id=f"batch-{number}",
        config_digest="d",
        objective=Objective.DPO,
        epoch=number,
        train=DatasetFile(uri="artifact://objects/1", sha256="1", rows=1, size=1),
        validation=None,
        groups=1,
        curriculum=CurriculumState(current_percentile=1.0),
        policy_versions=[],
    )


def _accepted(number: int = 0, ledger: JobLedger | None = None) -> tuple[JobLedger, str]:
    ledger = ledger or JobLedger()
    assert ledger.accept(_batch(number), backend="trl", now=NOW, effects=Effects())
    return ledger, job_id("run", f"batch-{number}")


def _complete(
    ledger: JobLedger, job: str, attempt: int, effects: Effects, evaluation: Evaluation = UNEVALUATED
) -> ModelVersion | None:
    return ledger.complete(
        job,
        attempt,
        artifact=WEIGHTS,
        base_model="base",
        metrics={},
        evaluation=evaluation,
        message="",
        now=NOW,
        effects=effects,
    )


def _trained(count: int) -> JobLedger:
    ledger = JobLedger()
    for number in range(count):
        _, job = _accepted(number, ledger)
        ledger.start(job, now=NOW, effects=Effects())
        assert _complete(ledger, job, 1, Effects()) is not None
    return ledger


def test_a_batch_that_comes_twice_makes_one_job() -> None:
    ledger, _ = _accepted()
    effects = Effects()
    assert not ledger.accept(_batch(), backend="trl", now=NOW, effects=effects)
    assert effects.outbound == []
    assert len(ledger.jobs()) == 1


def test_the_terminal_status_the_version_and_the_pointer_are_one_set_of_effects() -> None:
    ledger, job = _accepted()
    ledger.start(job, now=NOW, effects=Effects())
    effects = Effects()
    version = _complete(ledger, job, 1, effects)
    assert version is not None
    bodies = {type(output.body): output.body for output in effects.outbound}
    assert set(bodies) == {JobRecord, TrainingJobStatus, ModelVersion, CurrentModel}
    assert [e.topic for e in effects.outbound] == ["training.jobs", "training.status", "models", "models"]
    assert ledger.current("run") == version


def test_a_rejected_version_is_registered_and_not_promoted() -> None:
    ledger, job = _accepted()
    ledger.start(job, now=NOW, effects=Effects())
    effects = Effects()
    version = _complete(ledger, job, 1, effects, REJECTED)
    assert version is not None
    assert version.status is ModelStatus.REJECTED
    assert ledger.current("run") is None
    assert not [output for output in effects.outbound if isinstance(output.body, CurrentModel)]


def test_a_version_that_an_evaluator_holds_waits_for_a_command() -> None:
    ledger, job = _accepted()
    ledger.start(job, now=NOW, effects=Effects())
    held = Evaluation(items=50, verdict="unevaluated", hold="evaluator judge failed: it is out")
    effects = Effects()
    version = _complete(ledger, job, 1, effects, held)
    assert version is not None
    assert version.status is ModelStatus.CANDIDATE
    assert ledger.current("run") is None
    record = ledger.job(job)
    assert record is not None
    assert "candidate: " in (record.message or "")
    command = ControlCommand(run_id="run", command_id="c", action="promote", version=version.version)
    assert obey(ledger, command, now=NOW, effects=Effects()).accepted


def test_a_version_that_was_compared_with_a_former_one_stays_a_candidate() -> None:
    ledger = _trained(2)
    _, job = _accepted(2, ledger)
    ledger.start(job, now=NOW, effects=Effects())
    rollback = ControlCommand(run_id="run", command_id="c", action="rollback")
    assert obey(ledger, rollback, now=NOW, effects=Effects()).accepted
    version = _complete(ledger, job, 1, Effects())
    assert version is not None
    assert version.status is ModelStatus.CANDIDATE
    current = ledger.current("run")
    assert current is not None
    assert current.number == 1


def test_a_version_is_judged_on_the_rows_held_out_before() -> None:
    ledger = JobLedger()
    for number in range(3):
        batch = _batch(number)
        held_out = batch.train.model_copy(update={"uri": f"artifact://objects/{number}"})
        ledger.accept(
            batch.model_copy(update={"validation": held_out}), backend="trl", now=NOW, effects=Effects()
        )
    last = ledger.job(job_id("run", "batch-2"))
    assert last is not None
    assert [file.uri for file in ledger.judging(last)] == ["artifact://objects/1", "artifact://objects/0"]


def test_what_made_a_version_worse_judges_no_other() -> None:
    ledger = JobLedger()
    for number, evaluation in enumerate((UNEVALUATED, REJECTED, UNEVALUATED)):
        batch = _batch(number)
        held_out = batch.train.model_copy(update={"uri": f"artifact://objects/{number}"})
        ledger.accept(
            batch.model_copy(update={"validation": held_out}), backend="trl", now=NOW, effects=Effects()
        )
        job = job_id("run", f"batch-{number}")
        ledger.start(job, now=NOW, effects=Effects())
        made = _complete(ledger, job, 1, Effects(), evaluation)
    last = ledger.job(job)
    assert last is not None
    later = last.model_copy(update={"created": NOW.replace(hour=1), "batch": _batch(9)})
    uris = [f"artifact://objects/{number}" for number in (2, 0)]
    assert [file.uri for file in ledger.judging(later)] == uris
    assert made is not None
    first = job_id("run", "batch-0")
    ledger.point(
        "run", version_id("run", first), cause="live_scores", message="bad", now=NOW, effects=Effects()
    )
    assert [file.uri for file in ledger.judging(later)] == uris[1:]


def test_only_the_latest_attempt_commits() -> None:
    ledger, job = _accepted()
    ledger.start(job, now=NOW, effects=Effects())
    ledger.start(job, now=NOW, effects=Effects())
    effects = Effects()
    told = ledger.report(job, 1, progress=5, message="", metrics={}, now=NOW, effects=effects)
    assert not told
    assert _complete(ledger, job, 1, effects) is None
    assert effects.outbound == []
    assert _complete(ledger, job, 2, effects) is not None
    assert _complete(ledger, job, 2, Effects()) is None, "and it commits once"


def test_a_version_continues_from_the_current_one() -> None:
    ledger = _trained(2)
    current = ledger.current("run")
    assert current is not None
    assert current.number == 2
    assert current.parent is not None
    assert ledger.versions("run")[current.parent].number == 1


def test_a_canceled_job_takes_no_report() -> None:
    ledger, job = _accepted()
    ledger.start(job, now=NOW, effects=Effects())
    command = ControlCommand(run_id="run", command_id="c", action="cancel", job_id=job)
    assert obey(ledger, command, now=NOW, effects=Effects()).accepted
    record = ledger.job(job)
    assert record is not None
    assert record.status is TrainingStatusEnum.CANCELED
    assert not ledger.holds(job, 1)
    assert not obey(ledger, command, now=NOW, effects=Effects()).accepted, "it is canceled already"


def test_two_promotions_that_expect_one_generation_have_one_winner() -> None:
    ledger = _trained(2)
    versions = sorted(ledger.versions("run").values(), key=lambda version: version.number)
    answers = [
        obey(
            ledger,
            ControlCommand(
                run_id="run",
                command_id=str(number),
                action="promote",
                version=versions[0].version,
                expected_generation=2,
            ),
            now=NOW,
            effects=Effects(),
        )
        for number in range(2)
    ]
    assert [answer.accepted for answer in answers] == [True, False]
    assert answers[1].generation == 3
    current = ledger.current("run")
    assert current is not None
    assert current.version == versions[0].version


def test_one_version_is_promoted_and_those_before_it_are_retired() -> None:
    ledger = _trained(2)
    effects = Effects()
    command = ControlCommand(run_id="run", command_id="c", action="rollback")
    assert obey(ledger, command, now=NOW, effects=effects).accepted
    told = [output.body for output in effects.outbound if output.topic == "models"]
    assert [
        (body.number, body.status) if isinstance(body, ModelVersion) else vars(body)["generation"]
        for body in told
    ] == [(2, ModelStatus.RETIRED), (1, ModelStatus.PROMOTED), 3]
    statuses = {version.number: version.status for version in ledger.versions("run").values()}
    assert statuses == {1: ModelStatus.PROMOTED, 2: ModelStatus.RETIRED}


def test_promoting_what_is_current_changes_nothing() -> None:
    ledger = _trained(1)
    current = ledger.current("run")
    assert current is not None
    command = ControlCommand(run_id="run", command_id="c", action="promote", version=current.version)
    answer = obey(ledger, command, now=NOW, effects=Effects())
    assert (answer.accepted, answer.generation) == (True, 1)


def test_a_rejected_version_is_promoted_by_force_only() -> None:
    ledger, job = _accepted()
    ledger.start(job, now=NOW, effects=Effects())
    version = _complete(ledger, job, 1, Effects(), REJECTED)
    assert version is not None
    command = ControlCommand(run_id="run", command_id="c", action="promote", version=version.version)
    refused = obey(ledger, command, now=NOW, effects=Effects())
    assert not refused.accepted
    assert "rejected" in refused.reason
    forced = command.model_copy(update={"force": True})
    assert obey(ledger, forced, now=NOW, effects=Effects()).accepted


def _submitted(ledger: JobLedger, **fields: object) -> ControlResult:
    command = ControlCommand.model_validate(
        {"run_id": "run", "command_id": "s", "action": "submit", **fields}
    )
    return obey(ledger, command, now=NOW, effects=Effects(), backend="trl")


def test_a_submitted_dataset_makes_a_job() -> None:
    ledger = JobLedger()
    answer = _submitted(ledger, batch=_batch())
    assert answer.accepted
    assert answer.job_id == job_id("run", "batch-0")
    again = _submitted(ledger, batch=_batch())
    assert not again.accepted, "its job waits"
    assert again.job_id == answer.job_id


def test_a_dataset_for_an_unknown_configuration_is_refused() -> None:
    ledger = JobLedger()
    command = ControlCommand(run_id="run", command_id="s", action="submit", batch=_batch())
    answer = obey(ledger, command, now=NOW, effects=Effects(), backend=None)
    assert not answer.accepted
    assert "run apply" in answer.reason
    assert ledger.jobs() == []


def test_a_canceled_job_is_submitted_again_as_another_that_resumes() -> None:
    ledger, first = _accepted()
    ledger.start(first, now=NOW, effects=Effects())
    ledger.cancel(first, code="canceled", message="", now=NOW, effects=Effects())
    answer = _submitted(ledger, job_id=first)
    assert answer.job_id is not None
    assert answer.job_id != first
    second = ledger.start(answer.job_id, now=NOW, effects=Effects())
    assert second is not None
    assert (second.submission, second.resumes) == (2, first)
    assert ledger.left_off(second) == first
    canceled = ledger.job(first)
    assert canceled is not None
    assert canceled.status is TrainingStatusEnum.CANCELED, "its terminal status stays its last"
    assert not ledger.accept(_batch(), backend="trl", now=NOW, effects=Effects())


def test_a_job_does_not_go_on_from_what_had_another_parent() -> None:
    ledger, first = _accepted()
    ledger.start(first, now=NOW, effects=Effects())
    ledger.cancel(first, code="canceled", message="", now=NOW, effects=Effects())
    _, other = _accepted(1, ledger)
    ledger.start(other, now=NOW, effects=Effects())
    assert _complete(ledger, other, 1, Effects()) is not None
    again = _submitted(ledger, batch_id="batch-0").job_id
    assert again is not None
    second = ledger.start(again, now=NOW, effects=Effects())
    assert second is not None
    assert ledger.left_off(second) is None


def test_a_failed_job_is_submitted_again_from_the_start() -> None:
    ledger, first = _accepted()
    ledger.start(first, now=NOW, effects=Effects())
    ledger.fail(first, code="nan_loss", message="", now=NOW, effects=Effects())
    again = _submitted(ledger, job_id=first).job_id
    made = ledger.job(again or "")
    assert made is not None
    assert made.resumes is None


def test_the_batch_of_a_job_is_no_judge_of_its_next_submission() -> None:
    ledger = JobLedger()
    batch = _batch()
    held_out = batch.train.model_copy(update={"uri": "artifact://objects/held-out"})
    ledger.accept(
        batch.model_copy(update={"validation": held_out}), backend="trl", now=NOW, effects=Effects()
    )
    first = job_id("run", "batch-0")
    ledger.fail(first, code="x", message="", now=NOW, effects=Effects())
    again = ledger.job(_submitted(ledger, job_id=first).job_id or "")
    assert again is not None
    later = again.model_copy(update={"created": NOW.replace(hour=1)})
    assert ledger.judging(later) == []


def test_a_ledger_restored_from_its_records_goes_on() -> None:
    ledger = JobLedger()
    effects = Effects()
    ledger.accept(_batch(), backend="trl", now=NOW, effects=effects)
    job = job_id("run", "batch-0")
    ledger.start(job, now=NOW, effects=effects)
    _complete(ledger, job, 1, effects)
    restored = JobLedger()
    for output in effects.outbound:
        if isinstance(output.body, JobRecord):
            restored.restore_job(output.body)
        elif isinstance(output.body, ModelVersion | CurrentModel):
            restored.restore_models([output.body])
    assert restored.jobs() == ledger.jobs()
    assert restored.current("run") == ledger.current("run")
