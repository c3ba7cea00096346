"""Why a job of a remote backend ends: each fault has its code, which decides whether it is tried again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tunestream.artifacts import ArtifactCorrupt, ArtifactMissing
from tunestream.trainers import TrainingFailed, is_infrastructure
from tunestream.trainers.art import errors as art
from tunestream.trainers.nemo import errors as nemo
from tunestream.trainers.remote import Refused, Unavailable

AWAY, FORBIDDEN, NO = Unavailable("reset"), Refused(403, "who?"), Refused(422, "no such field")


@pytest.mark.parametrize("explain", [art.as_failure, nemo.failure_of], ids=["art", "nemo"])
@pytest.mark.parametrize(
    ("error", "code", "again"),
    [
        (AWAY, "service_unreachable", True),
        (Refused(401, "who?"), "unauthorized", False),
        (FORBIDDEN, "unauthorized", False),
        (NO, "service_refused", False),
    ],
)
def test_a_fault_of_a_service_has_its_code(
    explain: Callable[[Exception], TrainingFailed], error: Exception, code: str, again: bool
) -> None:
    failure = explain(error)
    assert (failure.code, is_infrastructure(failure.code)) == (code, again)
    assert str(error) in failure.message


def test_a_refused_token_names_the_keys_of_the_section() -> None:
    assert "trainer.backend.api_key_env" in art.as_failure(FORBIDDEN).message
    message = nemo.failure_of(FORBIDDEN).message
    assert "trainer.api_key_env" in message
    assert "trainer.hf_token_env" in message


@pytest.mark.parametrize("explain", [art.failure_of, nemo.failure_of], ids=["art", "nemo"])
@pytest.mark.parametrize(
    ("error", "code"),
    [(ArtifactCorrupt("short"), "artifact_corrupt"), (ArtifactMissing("gone"), "artifact_missing")],
)
def test_a_dataset_that_cannot_be_read_has_its_code(
    explain: Callable[[Exception], TrainingFailed], error: Exception, code: str
) -> None:
    assert explain(error).code == code


def test_whatever_else_happens_in_arts_worker_is_internal_and_kept_as_it_is_otherwise() -> None:
    known = TrainingFailed("no_step", "its step is still 3")
    assert art.failure_of(known) is known
    assert art.failure_of(RuntimeError("a bug")).code == "internal"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Refused(404, "no such job"), "job_vanished"),
        (NO, "service_refused"),
        (AWAY, "service_unreachable"),
    ],
)
def test_a_job_of_nemo_that_is_lost_from_sight_has_its_code(error: Refused | Unavailable, code: str) -> None:
    failure = nemo.lost_sight(error, "cust-7")
    assert failure.code == code
    assert ("cust-7" in failure.message) is (code == "job_vanished")
