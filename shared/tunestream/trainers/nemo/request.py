"""What the customizer is asked to train, and how its job is recognised afterwards."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from tunestream.events.ids import stable_id
from tunestream.trainers.nemo.config import NeMoCustomizerHyperparameters, NeMoCustomizerTrainerAdapterConfig
from tunestream.trainers.nemo.records import Records
from tunestream.trainers.nemo.views import JobView

__all__ = ["JobRequest", "hyperparameters", "is_of", "model_of", "name_of", "rows_of"]

_RUN: Final = "tunestream_run"
_JOB: Final = "tunestream_job"
_ATTEMPT: Final = "tunestream_attempt"
_ROWS: Final = "tunestream_rows"
_SKIPPED: Final = "tunestream_skipped"
_COMMIT: Final = "tunestream_commit"
_ENDED_BADLY: Final = frozenset({"failed", "cancelled", "canceled"})
_SAFE: Final = re.compile(r"[a-z0-9]{1,40}")


def name_of(job_id: str) -> str:
    """Return what stands for a job in the services' names: letters and digits, at most 40."""
    return job_id if _SAFE.fullmatch(job_id) else stable_id("nemo", job_id)


def is_of(job: JobView, run_id: str, job_id: str) -> bool:
    """Return whether the customizer's job was made for this one."""
    return job.custom_fields.get(_RUN) == run_id and job.custom_fields.get(_JOB) == job_id


def rows_of(job: JobView) -> tuple[int, dict[str, int]]:
    """Return how many rows a job trains on, and how many were left out by reason."""
    try:
        return int(job.custom_fields[_ROWS]), json.loads(job.custom_fields[_SKIPPED])
    except (KeyError, ValueError):
        return 1, {}  # written by somebody else; a job has at least one row


def model_of(job: JobView, job_id: str, namespace: str) -> str:
    """Return the name of the model that a job makes."""
    return job.output_model or _model(job_id, namespace, job.custom_fields.get(_ATTEMPT, "1"))


def _model(job_id: str, namespace: str, attempt: str) -> str:
    return f"{namespace}/tunestream-{name_of(job_id)}@{attempt}"


def hyperparameters(values: NeMoCustomizerHyperparameters) -> dict[str, Any]:
    """Return the hyperparameters as the service takes them: what is not set is not sent."""
    others = {"dpo", "sft"} - {values.training_type}
    return values.model_dump(mode="json", exclude_none=True, exclude=others)


@dataclass(frozen=True, slots=True)
class JobRequest:
    """One job.

    Attributes:
        run_id: whose.
        job_id: ours; it names the customizer's job.
        config: what to train and how.
        dataset: its name in the entity store.
        commit: of the dataset in the data store.
        records: the dataset.
    """

    run_id: str
    job_id: str
    config: NeMoCustomizerTrainerAdapterConfig
    dataset: str
    commit: str
    records: Records

    @staticmethod
    def is_replaced(found: JobView, attempt: int) -> bool:
        """Return whether ``attempt`` trains again although the customizer has ``found``."""
        earlier = found.custom_fields.get(_ATTEMPT, "")
        return found.status.lower() in _ENDED_BADLY and earlier.isdecimal() and int(earlier) < attempt

    def body(self, namespace: str, attempt: int) -> dict[str, Any]:
        """Return what is sent to create the job."""
        return {
            "config": self.config.customization_config,
            "dataset": {"namespace": namespace, "name": self.dataset},
            "hyperparameters": hyperparameters(self.config.hyperparameters),
            "name": f"tunestream-{name_of(self.job_id)}-{attempt}",
            "namespace": namespace,
            "description": f"tunestream run {self.run_id}",
            "output_model": _model(self.job_id, namespace, str(attempt)),
            "custom_fields": {
                _RUN: self.run_id,
                _JOB: self.job_id,
                _ATTEMPT: str(attempt),
                _COMMIT: self.commit,
                _ROWS: str(self.records.rows),
                _SKIPPED: json.dumps(self.records.skipped, sort_keys=True),
            },
        }
