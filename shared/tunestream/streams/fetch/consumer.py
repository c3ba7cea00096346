"""A consumer that delivers what it cannot decode."""

from __future__ import annotations

from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from tunestream.streams.fetch.resets import Gap, Resets
from tunestream.streams.fetch.tap import deliver_undecodable

__all__ = ["Consumer"]


class Consumer(AIOKafkaConsumer):  # type: ignore[misc]
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
