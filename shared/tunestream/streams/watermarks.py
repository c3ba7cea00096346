"""Where topics end, records of open transactions included."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Self

from aiokafka import AIOKafkaConsumer, TopicPartition

from tunestream.config.settings import KafkaSettings
from tunestream.streams.client import make_consumer

__all__ = ["Watermarks"]


class Watermarks:
    """High watermarks, through a client of its own: a consumer of committed records learns less.

    It connects with the first question, while entered.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._client: AIOKafkaConsumer | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.stop()

    async def ends(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the offset after the last record of each partition, whether it can be read yet or not.

        Raises:
            KafkaError: when the broker does not answer.
        """
        return dict(await (await self._connected()).end_offsets(list(places)))

    async def _connected(self) -> AIOKafkaConsumer:
        if self._client is None:
            client = make_consumer(self._settings, isolation_level="read_uncommitted")
            try:
                await client.start()
            except BaseException:
                await client.stop()
                raise
            if self._client is not None:  # somebody was faster
                await client.stop()
                return self._client
            self._client = client
        return self._client
