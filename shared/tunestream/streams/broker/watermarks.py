"""Where topics end, over connections of their own: with records of open transactions, or without."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaConsumer, TopicPartition

from tunestream.streams.broker.client import make_consumer

if TYPE_CHECKING:
    from tunestream.config.settings import KafkaSettings

__all__ = ["Watermarks"]


class Watermarks:
    """The ends of partitions, through a client of its own: a consumer of committed records learns less.

    What a consumer itself knows of them comes with its fetches, and is stale when fetching is broken. It
    connects with the first question.

    Args:
        settings: the broker.
        committed: the ends of what is committed (last stable offsets), else of all records (high watermarks).
    """

    def __init__(self, settings: KafkaSettings, *, committed: bool = False) -> None:
        self._settings = settings
        self._level = "read_committed" if committed else "read_uncommitted"
        self._client: AIOKafkaConsumer | None = None
        self._connecting = asyncio.Lock()

    async def close(self) -> None:
        """End the connection; the next question makes a new one."""
        client, self._client = self._client, None
        if client is not None:
            await client.stop()

    async def ends(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the offset after the last record of each partition.

        Raises:
            KafkaError: when the broker does not answer.
        """
        return dict(await (await self._connected()).end_offsets(list(places)))

    async def _connected(self) -> AIOKafkaConsumer:
        # Those who ask at once share one client: one that is stopped in the moment of its start raises a
        # CancelledError that nobody sent, and what waits for it ends in silence.
        async with self._connecting:
            if self._client is None:
                client = make_consumer(self._settings, isolation_level=self._level)
                try:
                    await client.start()
                except BaseException:
                    await client.stop()
                    raise
                self._client = client
            return self._client
