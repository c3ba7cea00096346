"""Following what comes out: statuses of training jobs, versions of models."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Generic, Self, TypeVar, cast

from tunestream.events.models import CurrentModel, ModelVersion
from tunestream.events.training import TrainingJobStatus
from tunestream.sdk.environment import settings_or_environment
from tunestream.streams.reading import RecordReader, StoredEvent, stored_events

if TYPE_CHECKING:
    from tunestream.config.settings import KafkaSettings

__all__ = ["ModelSubscriber", "StatusSubscriber"]

Event = TypeVar("Event", TrainingJobStatus, ModelVersion | CurrentModel)


class _Subscriber(Generic[Event]):
    """Typed events of one topic, committed ones only, outside any consumer group.

    Enter it to fix where it begins, then iterate. Entering it raises
    :class:`tunestream.sdk.BrokerUnavailable` within 20 s when there is no broker.

    Args:
        run_id: only this run's; by default all runs'.
        from_beginning: begin with the oldest event kept, else with what comes from now on.
        settings: the broker; by default from the environment.
    """

    _topic: ClassVar[str]
    _bodies: ClassVar[tuple[type[TrainingJobStatus | ModelVersion | CurrentModel], ...]]

    def __init__(
        self,
        run_id: str | None = None,
        *,
        from_beginning: bool = False,
        settings: KafkaSettings | None = None,
    ) -> None:
        self._run_id = run_id
        self._from_beginning = from_beginning
        self._settings = settings_or_environment(settings)
        self._reader: RecordReader

    async def __aenter__(self) -> Self:
        self._reader = await RecordReader(
            self._settings, self._topic, from_beginning=self._from_beginning, run_id=self._run_id
        ).__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._reader.__aexit__(kind, error, trace)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._events(stored_events(self._reader.forever()))

    def so_far(self) -> AsyncIterator[Event]:
        """Return the events up to now, then stop."""
        return self._events(stored_events(self._reader.to_end()))

    async def _events(self, records: AsyncIterator[StoredEvent]) -> AsyncIterator[Event]:
        async for stored in records:
            if isinstance(stored.body, self._bodies) and self._run_id in (None, stored.body.run_id):
                yield cast("Event", stored.body)


class StatusSubscriber(_Subscriber[TrainingJobStatus]):
    """The statuses of training jobs, those of a job in order.

    Example::

        async with StatusSubscriber("tic-tac-toe") as statuses:
            async for status in statuses:
                print(status.job_id, status.status, status.progress)
    """

    _topic = "training.status"
    _bodies = (TrainingJobStatus,)


class ModelSubscriber(_Subscriber[ModelVersion | CurrentModel]):
    """New model versions, and which one is current, in order.

    The topic is compacted: from the beginning come the latest record of each version and of each run's
    pointer, and what was not compacted yet.
    """

    _topic = "models"
    _bodies = (ModelVersion, CurrentModel)
