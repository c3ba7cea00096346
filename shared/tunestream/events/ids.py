"""Deterministic identifiers: a hash of what they name, never of when or where it was seen."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

__all__ = [
    "batch_id",
    "candidate_id",
    "candidate_ids",
    "content_digest",
    "episode_id",
    "group_id",
    "job_id",
    "stable_id",
    "turn_record_id",
    "version_id",
]

_HEX_LENGTH = 32  # 128 bits: no collision to be expected below 2**60 names


def stable_id(kind: str, *parts: str) -> str:
    """Hash ``kind`` and ``parts`` to 32 hexadecimal characters.

    Each part is preceded by its length, so that no two different lists of parts hash the same text.
    """
    text = "".join([f"{len(part)}:{part}" for part in (kind, *parts)])
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_HEX_LENGTH]


def content_digest(content: bytes) -> str:
    """Return the sha256 of ``content`` as 64 hexadecimal characters."""
    return sha256(content).hexdigest()


def candidate_id(run_id: str, example_id: str, turn_id: str, source_id: str) -> str:
    """Name a candidate; ``source_id`` is a step's UUID or a native event's ``candidate_id``."""
    return stable_id("candidate", run_id, example_id, turn_id, source_id)


def candidate_ids(run_id: str, example_id: str, turn_id: str, source_ids: Sequence[str]) -> list[str]:
    """Name candidates of one turn, each as :func:`candidate_id` does."""
    turn = "".join([f"{len(part)}:{part}" for part in ("candidate", run_id, example_id, turn_id)])
    texts = [f"{turn}{len(source_id)}:{source_id}" for source_id in source_ids]
    return [sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_HEX_LENGTH] for text in texts]


def turn_record_id(
    run_id: str, example_id: str, turn_id: str, candidate_ids: Sequence[str], *, complete: bool
) -> str:
    """Name a record of a turn by the candidates that it has."""
    return stable_id("turn", run_id, example_id, turn_id, "complete" if complete else "part", *candidate_ids)


def episode_id(run_id: str, example_id: str, source_id: str) -> str:
    """Name a finished episode of an example."""
    return stable_id("episode", run_id, example_id, source_id)


def group_id(run_id: str, example_id: str, turn_id: str, first_member_id: str) -> str:
    """Name the group of a turn (or of episodes) by its first member.

    A turn may come again once its memory has passed; the first member makes the ids of the two differ.
    """
    return stable_id("group", run_id, example_id, turn_id, first_member_id)


def batch_id(run_id: str, config_digest: str, epoch: int, dataset_sha256: str) -> str:
    """Name a training batch by its run, configuration, curriculum epoch and content."""
    return stable_id("batch", run_id, config_digest, str(epoch), dataset_sha256)


def job_id(run_id: str, batch: str, submission: int = 1) -> str:
    """Name the one training job of a batch, or that of a later ``submission`` of it."""
    later = () if submission == 1 else (str(submission),)
    return stable_id("job", run_id, batch, *later)


def version_id(run_id: str, job: str) -> str:
    """Name the one model version that a job can make."""
    return stable_id("version", run_id, job)
