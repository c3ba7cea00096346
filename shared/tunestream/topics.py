"""The catalogue of topics: the one place that defines what exists and how it is kept.

Topic creation, AsyncAPI, the docs and the tests are derived from :data:`CATALOGUE`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pydantic import BaseModel

from tunestream.events.registry import UnregisteredType, model_of

__all__ = [
    "CATALOGUE",
    "DEFAULT_PARTITIONS",
    "INPUTS",
    "OUTPUTS",
    "SERVICES",
    "TOMBSTONE_MS",
    "TOMBSTONE_SETTING",
    "Cleanup",
    "KeyRule",
    "Topic",
    "changelog_of",
    "dlq_of",
    "topic",
]

MIB: Final = 1 << 20
HOUR_MS: Final = 60 * 60 * 1000
DAY_MS: Final = 24 * HOUR_MS
DEFAULT_PARTITIONS: Final = 4

TOMBSTONE_SETTING: Final = "delete.retention.ms"
# A restore reads the tombstones of this time, and may take half of it.
TOMBSTONE_MS: Final = 30 * 60 * 1000

INPUTS: Final = {
    "ttc-collector": ("ttc.events",),
    "pair-builder": ("ttc.candidates", "ttc.scores"),
    "curriculum-gate": ("trajectories",),
    "trainer": ("training.batches", "training.control"),
}
"""The topics that each service reads, by their partition numbers."""

OUTPUTS: Final = {
    "ttc-collector": ("ttc.candidates",),
    "pair-builder": ("trajectories", "ttc.unscored"),
    "curriculum-gate": ("training.batches",),
    "trainer": ("training.jobs", "training.status", "training.control.results", "models"),
}
"""The topics that each service writes, beside its changelog and the dead letters of its inputs."""

SERVICES: Final = tuple(INPUTS)


class Cleanup(StrEnum):
    """How Kafka forgets the records of a topic."""

    DELETE = "delete"
    COMPACT = "compact"
    COMPACT_AND_DELETE = "compact,delete"


class KeyRule(StrEnum):
    """The parts of a record's key; see :func:`tunestream.events.encode_key`."""

    RUN_EXAMPLE = "run/example"
    RUN = "run"
    RUN_JOB = "run/job or run/live"
    RUN_VERSION = "run/version or run/current"
    RUN_DIGEST = "run/config digest, run/current or format"
    STATE = "as the service's state needs"
    ORIGINAL = "the refused record's key"
    LETTER = "topic/partition/offset of the dead letter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One topic of the catalogue.

    Attributes:
        name: without the deployment's prefix.
        description: what it carries, in one sentence.
        key: the parts of the key.
        types: the event types of its records; empty for state and for dead letters.
        cleanup: delete by time, or compact by key.
        retention_ms: how long records are kept; None for compacted topics.
        max_message_bytes: Kafka's limit on one record batch.
        lookback_ms: how far back a service begins that has no position; None for the beginning.
        by_run: partitioned by the run alone, so that a run's records lie in one partition.
        log_append_time: its records carry the broker's time, not their senders'.
        follows: the topic whose partitions belong to those of this one, number by number; None for none.
        from_outside: others than the services write it: an unknown field in a body is their fault.
        since: the first format whose release has it.
        service: whose changelog it is, None for others.
        source: the topic whose dead letters it holds, None for others.
    """

    name: str
    description: str
    key: KeyRule
    types: tuple[str, ...] = ()
    cleanup: Cleanup = Cleanup.DELETE
    retention_ms: int | None = 7 * DAY_MS
    max_message_bytes: int = 4 * MIB
    by_run: bool = False
    log_append_time: bool = False
    lookback_ms: int | None = None
    follows: str | None = None
    from_outside: bool = False
    since: int = 1
    service: str | None = None
    source: str | None = None

    def bodies(self) -> dict[str, type[BaseModel]]:
        """Return the body class of each of its types; loads the modules of ``tunestream.events``.

        Raises:
            UnregisteredType: when no class has one of the types.
        """
        found = {name: model_of(name) for name in self.types}
        if missing := [name for name, model in found.items() if model is None]:
            raise UnregisteredType(
                f"topic {self.name} carries {missing[0]}, which no class has: register its class with "
                f'@event_type("{missing[0]}") where the class stands, in a module of tunestream/events'
            )
        return {name: model for name, model in found.items() if model is not None}

    def settings(self) -> dict[str, str]:
        """Return the topic-level settings that Kafka should hold."""
        settings = {
            "cleanup.policy": self.cleanup.value,
            "max.message.bytes": str(self.max_message_bytes),
            "message.timestamp.type": "LogAppendTime" if self.log_append_time else "CreateTime",
        }
        if self.retention_ms is not None:
            settings["retention.ms"] = str(self.retention_ms)
        if self.cleanup is not Cleanup.DELETE:
            # Small segments that are cleaned early keep a restore short.
            settings |= {
                "segment.bytes": str(16 * MIB),
                "segment.ms": "60000",
                "min.cleanable.dirty.ratio": "0.1",
                TOMBSTONE_SETTING: str(TOMBSTONE_MS),
            }
        return settings


def dlq_of(name: str) -> str:
    """Return the name of the dead-letter topic of ``name``."""
    return f"{name}.dlq"


def changelog_of(service: str) -> str:
    """Return the name of the changelog of a service."""
    return f"{service}.changelog"


def _compacted(
    name: str,
    description: str,
    key: KeyRule,
    *types: str,
    by_run: bool = False,
    max_message_bytes: int = 4 * MIB,
    follows: str | None = None,
) -> Topic:
    return Topic(
        name=name,
        description=description,
        key=key,
        types=types,
        cleanup=Cleanup.COMPACT,
        retention_ms=None,
        max_message_bytes=max_message_bytes,
        by_run=by_run,
        follows=follows,
    )


_LINE: Final = (
    Topic(
        name="ttc.events",
        description="What agents publish: turns, candidates, scores, ends of turns and examples, episodes.",
        key=KeyRule.RUN_EXAMPLE,
        types=(
            "tunestream.ttc.turn.v1",
            "tunestream.ttc.candidate.v1",
            "tunestream.ttc.score.v1",
            "tunestream.ttc.turn_end.v1",
            "tunestream.ttc.example_end.v1",
            "tunestream.ttc.episode.v1",
            "nat.intermediate_step.v1",
        ),
        log_append_time=True,
        from_outside=True,
    ),
    Topic(
        name="ttc.candidates",
        description="Validated, normalised turns, candidates, scores, markers and ticks.",
        key=KeyRule.RUN_EXAMPLE,
        types=(
            "tunestream.turn.v1",
            "tunestream.candidate.v1",
            "tunestream.score.v1",
            "tunestream.turn_end.v1",
            "tunestream.example_end.v1",
            "tunestream.episode.v1",
            "tunestream.tick.v1",
        ),
        max_message_bytes=5 * MIB,  # a turn grows when it is normalised
        follows="ttc.events",
    ),
    Topic(
        name="ttc.scores",
        description="Turns of ttc.unscored again, with their scores.",
        key=KeyRule.RUN_EXAMPLE,
        types=("tunestream.scores.v1", "tunestream.scores_ref.v1"),
        max_message_bytes=5 * MIB,
        follows="ttc.candidates",
        since=3,
    ),
    Topic(
        name="trajectories",
        description="One group of trajectories per closed turn or episode group, and ticks.",
        key=KeyRule.RUN,
        types=(
            "tunestream.trajectory_group.v2",
            "tunestream.trajectory_group.v1",
            "tunestream.trajectory_group_ref.v1",
            "tunestream.tick.v1",
        ),
        max_message_bytes=8 * MIB,
        follows="ttc.candidates",  # its ticks
    ),
    Topic(
        name="training.batches",
        description="What jobs train on: manifests of windows' datasets; each window's decision; scores.",
        key=KeyRule.RUN,
        types=(
            "tunestream.training_batch.v1",
            "tunestream.window.v1",
            "tunestream.live_scores.v1",
        ),
    ),
    Topic(
        name="training.control",
        description="Commands to the owner of a run.",
        key=KeyRule.RUN,
        types=("tunestream.control_command.v1",),
        follows="training.batches",
        lookback_ms=HOUR_MS,
        from_outside=True,
    ),
)

_BESIDE: Final = (
    Topic(
        name="ttc.unscored",
        description="Complete turns that wait for the run's reward function.",
        key=KeyRule.RUN_EXAMPLE,
        types=("tunestream.unscored.v1", "tunestream.unscored_ref.v1"),
        max_message_bytes=5 * MIB,
        follows="ttc.candidates",
        since=3,
    ),
    Topic(
        name="training.control.results",
        description="The owner's answer to each command.",
        key=KeyRule.RUN,
        types=("tunestream.control_result.v1",),
        by_run=True,
    ),
    _compacted(
        "training.jobs",
        "The latest record of each job and of each run's live scores: the trainer's changelog and work list.",
        KeyRule.RUN_JOB,
        "tunestream.job.v1",
        "tunestream.live_record.v1",
        by_run=True,
        max_message_bytes=5 * MIB,  # a job holds its batch
        follows="training.batches",
    ),
    Topic(
        name="training.status",
        description="Every status of every job, in order.",
        key=KeyRule.RUN,
        types=("tunestream.training_status.v1",),
        by_run=True,
    ),
    _compacted(
        "models",
        "Model versions and each run's current pointer.",
        KeyRule.RUN_VERSION,
        "tunestream.model_version.v1",
        "tunestream.current_model.v1",
        by_run=True,
    ),
    _compacted(
        "runs",
        "The configurations of runs, and the format that this deployment writes.",
        KeyRule.RUN_DIGEST,
        "tunestream.run.v1",
        "tunestream.run_pointer.v1",
        "tunestream.format.v1",
    ),
)


def _changelogs() -> Iterator[Topic]:
    sizes = {entry.name: entry.max_message_bytes for entry in _LINE}
    for service, sources in INPUTS.items():
        yield Topic(
            name=changelog_of(service),
            description=f"The state of {service}, partition by partition of {' and '.join(sources)}.",
            key=KeyRule.STATE,
            cleanup=Cleanup.COMPACT,
            retention_ms=None,
            # It holds what its service read.
            max_message_bytes=max(sizes[source] for source in sources) + MIB,
            service=service,
            follows=sources[0],
        )


_LETTERS_MS: Final = 30 * DAY_MS


def _dead_letters() -> Iterator[Topic]:
    for entry in _LINE:
        yield Topic(
            name=dlq_of(entry.name),
            description=f"What was refused from {entry.name}, in its original bytes, with the reason.",
            key=KeyRule.ORIGINAL,
            retention_ms=_LETTERS_MS,
            max_message_bytes=2 * entry.max_message_bytes,
            source=entry.name,
            follows=entry.name,
        )


_MARKS: Final = Topic(
    name="dlq.marks",
    description="Which dead letters were sent again; removed with them by `dlq purge`.",
    key=KeyRule.LETTER,
    types=("tunestream.dlq_mark.v1",),
    cleanup=Cleanup.COMPACT_AND_DELETE,
    # Kafka deletes whole segments, up to a week late: a mark has to be there as long as its letter.
    retention_ms=2 * _LETTERS_MS,
)

CATALOGUE: Final = (*_LINE, *_BESIDE, *_changelogs(), *_dead_letters(), _MARKS)
_BY_NAME: Final = {entry.name: entry for entry in CATALOGUE}


def topic(name: str) -> Topic:
    """Return the catalogue's entry for a topic's name without prefix.

    Raises:
        KeyError: when the catalogue has no such topic.
    """
    return _BY_NAME[name]
