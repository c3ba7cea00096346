"""The publisher for programs without asyncio."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from tunestream.events.scores import TTCScore
from tunestream.events.trajectories import EpisodeItem
from tunestream.events.ttc import PublishedPrompt, TTCEpisode
from tunestream.sdk.event_records import NativeEvent
from tunestream.sdk.publisher import TTCPublisher
from tunestream.sdk.turn import Turn, TurnReceipt

if TYPE_CHECKING:
    from tunestream.config.settings import KafkaSettings

__all__ = ["BlockingTTCPublisher"]

Result = TypeVar("Result")


class BlockingTTCPublisher:
    """:class:`tunestream.sdk.TTCPublisher` with ``with`` instead of ``async with`` and no ``await``.

    The asynchronous one runs on an event loop in a thread of its own. Threads may share it.

    Args:
        settings: as the asynchronous one's.
        **options: as the asynchronous one's.
    """

    def __init__(self, settings: KafkaSettings | None = None, **options: Any) -> None:
        self._settings = settings
        self._options = options
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ttc-publisher", daemon=True)
        self._publisher: TTCPublisher

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._publisher = self._call(self._open())
        except BaseException:
            self._close_loop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._call(self._publisher.__aexit__(kind, error, trace))
        finally:
            self._close_loop()

    async def _open(self) -> TTCPublisher:
        return await TTCPublisher(self._settings, **self._options).__aenter__()

    def _close_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run on the publisher's loop; an interrupt of this thread cancels the work."""
        running = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return running.result()
        except BaseException:
            running.cancel()
            raise

    @property
    def policy_version(self) -> str | None:
        """The model version stamped on what names none."""
        return self._publisher.policy_version

    @policy_version.setter
    def policy_version(self, version: str | None) -> None:
        self._publisher.policy_version = version

    @contextmanager
    def turn(
        self, run_id: str, example_id: str, *, prompt: PublishedPrompt, stream: bool = False, **options: Any
    ) -> Iterator[Turn]:
        """See :meth:`TTCPublisher.turn`; with ``stream`` adding one waits while the buffer is full."""
        added = self.publish if stream else None
        turn = self._publisher.begin_turn(run_id, example_id, prompt=prompt, added=added, **options)
        yield turn
        self._call(self._publisher.publish_turn(turn))

    def score(
        self, turn: TurnReceipt, candidate_id: str, *, score: float, source: str, **options: Any
    ) -> TTCScore:
        """See :meth:`TTCPublisher.score`."""
        return self._call(self._publisher.score(turn, candidate_id, score=score, source=source, **options))

    def end_example(self, run_id: str, example_id: str) -> None:
        """See :meth:`TTCPublisher.end_example`."""
        self._call(self._publisher.end_example(run_id, example_id))

    def episode(
        self, run_id: str, example_id: str, items: Iterable[EpisodeItem], *, reward: float, **options: Any
    ) -> TTCEpisode:
        """See :meth:`TTCPublisher.episode`."""
        return self._call(self._publisher.episode(run_id, example_id, items, reward=reward, **options))

    def publish(self, event: NativeEvent) -> None:
        """See :meth:`TTCPublisher.publish`."""
        self._call(self._publisher.publish(event))

    def nat_step(self, run_id: str, example_id: str, step: bytes) -> None:
        """See :meth:`TTCPublisher.nat_step`."""
        self._call(self._publisher.nat_step(run_id, example_id, step))

    def flush(self) -> None:
        """See :meth:`TTCPublisher.flush`."""
        self._call(self._publisher.flush())
