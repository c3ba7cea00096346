"""The client's consumer with a stop that ends; and one that delivers what it cannot decode."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from tunestream.streams.fetch.resets import Gap, Resets
from tunestream.streams.fetch.tap import deliver_undecodable

__all__ = ["Consumer", "PlainConsumer"]

# Before the client's fetcher is ended once more; by itself it ends within a few turns of the loop.
_AGAIN_SECONDS: Final = 0.1


class PlainConsumer(AIOKafkaConsumer):  # type: ignore[misc]
    """The client's consumer; its stop ends also right behind an assignment.

    After an assignment the client's fetcher ends the fetches that are under way. An end of its own that
    comes meanwhile ends one of these instead, is lost, and the client's stop would wait for ever.
    """

    async def stop(self) -> None:
        """Stop the client."""
        if self._fetcher is not None:
            await _end(self._fetcher._fetch_task)  # noqa: SLF001 - nothing public ends it
        await super().stop()


async def _end(fetching: asyncio.Task[None]) -> None:
    while not fetching.done():
        fetching.cancel()
        await asyncio.wait({fetching}, timeout=_AGAIN_SECONDS)


class Consumer(PlainConsumer):
    """A consumer that delivers what it cannot decode, as :class:`.Undecodable` records."""

    _tapped: Any = None
    _resets: Resets | None = None

    # The client makes its fetcher when it starts, and the fetcher begins at once.
    @property
    def _fetcher(self) -> Any:
        return self._tapped

    @_fetcher.setter
    def _fetcher(self, fetcher: Any) -> None:
        if fetcher is not None:
            deliver_undecodable(fetcher)
            self._resets = Resets(fetcher)
        self._tapped = fetcher

    def passed_gaps(self) -> list[Gap]:
        """Return what was deleted before it was read, and passed in silence, since the last call."""
        return [] if self._resets is None else self._resets.take()

    def positions(self) -> dict[TopicPartition, int | None]:
        """Return where each assigned partition is read next; None while it is being found out."""
        subscription = self._subscription.subscription
        if subscription is None or subscription.assignment is None:
            return {}
        states = {place: subscription.assignment.state_value(place) for place in self.assignment()}
        return {
            place: state.position if state is not None and state.has_valid_position else None
            for place, state in states.items()
        }
