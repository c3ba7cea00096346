"""Watching the topics while the demo runs: how much flows, which jobs run, which version is current."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from pydantic import BaseModel

from tunestream.config.settings import KafkaSettings
from tunestream.events.groups import PreferenceGroup
from tunestream.events.models import CurrentModel, ModelVersion
from tunestream.events.training import TrainingBatch, TrainingJobStatus, TrainingStatusEnum
from tunestream.events.trajectories import TrajectoryGroup, TrajectoryGroupRef
from tunestream.streams.reading import RecordReader, stored_events

__all__ = ["ENDED", "TOPICS", "Flow", "Observations", "Observer"]

TOPICS: Final = (
    "ttc.events",
    "ttc.candidates",
    "trajectories",
    "training.batches",
    "training.status",
    "models",
)
ENDED: Final = frozenset(
    {TrainingStatusEnum.COMPLETED, TrainingStatusEnum.FAILED, TrainingStatusEnum.CANCELED}
)
_RATE_SECONDS: Final = 5.0


@dataclass(slots=True)
class Flow:
    """The records of one topic: how many, and how many a second lately."""

    records: int = 0
    _marks: deque[tuple[float, int]] = field(default_factory=deque)

    def add(self) -> None:
        """Count one record."""
        self.records += 1

    def rate(self, now: float) -> float:
        """Return records a second since the oldest look of the last five seconds; ``now`` in seconds."""
        self._marks.append((now, self.records))
        while now - self._marks[0][0] > _RATE_SECONDS:
            self._marks.popleft()
        since, before = self._marks[0]
        return (self.records - before) / (now - since) if now > since else 0.0


@dataclass(slots=True)
class Observations:
    """What was read so far of one run.

    Attributes:
        groups: closed turns.
        jobs: the latest status of each job, oldest job first.
        versions: by their id.
        current: the run's pointer.
    """

    flows: dict[str, Flow] = field(default_factory=lambda: {name: Flow() for name in TOPICS})
    groups: int = 0
    batches: int = 0
    jobs: dict[str, TrainingJobStatus] = field(default_factory=dict)
    versions: dict[str, ModelVersion] = field(default_factory=dict)
    current: CurrentModel | None = None

    def statuses(self) -> Counter[TrainingStatusEnum]:
        """Return how many jobs are in each state."""
        return Counter(status.status for status in self.jobs.values())


class Observer:
    """Reads every topic of the line from now on and keeps what concerns one run.

    Args:
        settings: the broker.
        run_id: the run.
        on_event: called with each body of the run after it was taken in.
    """

    def __init__(
        self, settings: KafkaSettings, run_id: str, *, on_event: Callable[[BaseModel], None]
    ) -> None:
        self.seen = Observations()
        self._settings = settings
        self._run_id = run_id
        self._on_event = on_event
        self._stack = AsyncExitStack()
        self._readers: dict[str, RecordReader] = {}

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for name in TOPICS:
                reader = RecordReader(self._settings, name, from_beginning=False)
                self._readers[name] = await stack.enter_async_context(reader)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def follow(self) -> None:
        """Read until cancelled."""
        async with asyncio.TaskGroup() as group:
            for name, reader in self._readers.items():
                group.create_task(self._follow(name, reader))

    async def _follow(self, name: str, reader: RecordReader) -> None:
        flow = self.seen.flows[name]
        async for stored in stored_events(reader.forever()):
            if stored.body is not None and getattr(stored.body, "run_id", None) == self._run_id:
                flow.add()
                self._take(stored.body)

    def _take(self, body: BaseModel) -> None:
        seen = self.seen
        match body:
            case TrajectoryGroup() | PreferenceGroup() | TrajectoryGroupRef():
                seen.groups += 1
            case TrainingBatch():
                seen.batches += 1
            case TrainingJobStatus():
                seen.jobs[body.job_id] = body
            case ModelVersion():
                seen.versions[body.version] = body
            case CurrentModel():
                seen.current = body
            case _:
                return
        self._on_event(body)
