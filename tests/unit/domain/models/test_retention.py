"""What may be deleted: nothing that a pointer, an unfinished job or a kept version refers to."""

from __future__ import annotations

from datetime import timedelta

from tests.helpers.versions import NOW, version
from tunestream.domain.jobs.ledger import JobLedger
from tunestream.domain.models.retention import Garbage, find_garbage
from tunestream.events.models import Artifact, CurrentModel
from tunestream.events.training import (
    CurriculumState,
    DatasetFile,
    JobRecord,
    Objective,
    TrainingBatch,
    TrainingStatusEnum,
)

LATER = NOW + timedelta(days=30)
COMPLETED = TrainingStatusEnum.COMPLETED


def file(name: str) -> DatasetFile:
    return DatasetFile(uri=f"artifact://objects/{name}", sha256=name, rows=1, size=1)


def batch(name: str, *, train: str | None = None, submitted: bool = False) -> TrainingBatch:
    return TrainingBatch(
        run_id="run",
        batch_id=name,
        config_digest="d",
        objective=Objective.DPO,
        epoch=0,
        train=file(train or f"train-{name}"),
        validation=file(f"held-out-{name}"),
        groups=1,
        curriculum=CurriculumState(current_percentile=1.0),
        policy_versions=[],
        origin="submitted" if submitted else "stream",
    )


def job(name: str, status: TrainingStatusEnum = COMPLETED, **fields: object) -> JobRecord:
    values = {"batch": batch(name), "run_id": "run", "job_id": name, "backend": "trl", "status": status}
    return JobRecord.model_validate({**values, "created": NOW, "updated": NOW, **fields})


def test_weights_that_stay_with_their_backend_are_named_and_not_deleted() -> None:
    ledger = JobLedger()
    remote = version("v1").model_copy(
        update={"artifact": Artifact(uri="nemo://a/b", sha256="", kind="adapter")}
    )
    ledger.restore_models([remote])
    found = find_garbage(ledger, [], keep=0, before=LATER)
    assert (found.weights, found.elsewhere) == ({}, {"v1": "nemo://a/b"})


def garbage(
    jobs: list[JobRecord], *, current: int = 0, keep: int = 0, before: timedelta = timedelta(days=1)
) -> Garbage:
    """Judge five versions v1 to v5, of which `current` is current and the one before it was."""
    ledger = JobLedger()
    for one in jobs:
        ledger.restore_job(one)
    ledger.restore_models(
        version(f"v{number}", number=number, created=NOW + timedelta(minutes=number))
        for number in range(1, 6)
    )
    if current:
        ledger.restore_models(
            [CurrentModel(run_id="run", version=f"v{current}", generation=2, previous=f"v{current - 1}")]
        )
    return find_garbage(ledger, [], keep=keep, before=NOW + before)


def test_the_current_version_the_one_before_and_the_newest_stay() -> None:
    weights = {"v1": "artifact://trees/v1", "v4": "artifact://trees/v4"}
    assert garbage([], current=3, keep=1).weights == weights
    assert garbage([], current=3, keep=5).weights == {}


def test_what_is_young_stays() -> None:
    old = garbage([job("a")], before=timedelta(minutes=3))
    assert list(old.weights) == ["v1", "v2"]
    young = garbage([job("a")], before=timedelta(0))
    assert (young.weights, young.datasets, young.checkpoints, young.logs) == ({}, [], [], [])


def test_the_version_that_an_unfinished_job_trains_from_stays() -> None:
    running = job("a", TrainingStatusEnum.RUNNING, parent_version="v1")
    assert "v1" not in garbage([running]).weights


def test_the_dataset_of_a_kept_version_stays_and_all_that_is_held_out() -> None:
    found = garbage([job("kept", version="v5"), job("gone", version="v1")], current=5)
    assert found.datasets == ["artifact://objects/train-gone"]


def test_the_dataset_of_an_unfinished_job_stays_although_another_ended_with_it() -> None:
    again = job("again", TrainingStatusEnum.PENDING, batch=batch("gone"), resumes="gone")
    found = garbage([job("gone", TrainingStatusEnum.CANCELED), again])
    assert found.datasets == []
    assert found.checkpoints == [], "it goes on from them"
    assert found.logs


def test_the_held_out_rows_of_a_submitted_dataset_go_with_it() -> None:
    found = garbage([job("s", batch=batch("s", submitted=True))])
    assert found.datasets == ["artifact://objects/held-out-s", "artifact://objects/train-s"]
    assert found.checkpoints == found.logs == ["s"]


def test_the_same_content_under_another_name_stays() -> None:
    ledger = JobLedger()
    ledger.restore_job(job("gone"))
    unseen = batch("new", train="train-gone")
    assert find_garbage(ledger, [unseen], keep=0, before=LATER).datasets == []


def test_weights_that_two_versions_share_stay_with_one_of_them() -> None:
    ledger = JobLedger()
    old = version("old")
    new = version("new", created=NOW + timedelta(hours=1)).model_copy(update={"artifact": old.artifact})
    ledger.restore_models([old, new])
    assert find_garbage(ledger, [], keep=1, before=LATER).weights == {}
