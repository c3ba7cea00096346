"""Records that the client cannot decode: delivered in their place, in raw bytes, instead of an exception.

The client decodes a fetch while it is polled and raises at the first record that it cannot read: then
neither that record nor what lies before and behind it is ever delivered. Here the batches of each fetch are
walked instead. A record whose header names are not UTF-8 costs itself, a damaged batch costs the batch. What
the client does otherwise is kept: aborted transactions and control batches are passed over.

The seam is between the client's ``Fetcher``, its ``PartitionRecords`` and the bytes that it gives to
``MemoryRecords``; tests/unit/streams/test_undecodable.py checks that it is where it was.
"""

from __future__ import annotations

from typing import Any

from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.protocol.fetch import FetchRequest

from tunestream.streams.fetch.walking import FetchedRecords, WalkedRecords

__all__ = ["deliver_undecodable"]


def deliver_undecodable(fetcher: Any) -> None:
    """Have a consumer's fetcher deliver :class:`Undecodable` records instead of raising.

    Args:
        fetcher: the client's, before it fetched anything.
    """
    _Tap(fetcher)


class _Tap:
    """Stands between a fetcher and its client, and sees the bytes of each fetch.

    Nothing is awaited between the end of :meth:`send` and the end of the fetcher's own method, so the bytes
    kept here are those of the results that it made last.
    """

    def __init__(self, fetcher: Any) -> None:
        self._fetcher = fetcher
        self._client = fetcher._client  # noqa: SLF001 # the seam
        self._process = fetcher._proc_fetch_request  # noqa: SLF001
        self._fetched: dict[TopicPartition, tuple[bytes, int]] = {}
        fetcher._client = self  # noqa: SLF001
        fetcher._proc_fetch_request = self.process  # noqa: SLF001

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def send(self, node: int, request: Any) -> Any:
        """Send a request and keep the bytes of a fetch."""
        response = await self._client.send(node, request)
        if isinstance(request, FetchRequest):
            self._fetched = {
                TopicPartition(topic, partition): (rest[-1], highwater)
                for topic, partitions in response.topics
                for partition, _error, highwater, *rest in partitions
            }
        return response

    async def process(self, assignment: Any, node: int, request: Any) -> bool:
        """Fetch, and have the results read by :class:`WalkedRecords`."""
        has_new = bool(await self._process(assignment, node, request))
        fetched, self._fetched = self._fetched, {}
        for place, (raw, highwater) in fetched.items():
            result = self._fetcher._records.get(place)  # noqa: SLF001
            if type(result) is FetchResult and type(result._partition_records) is PartitionRecords:  # noqa: SLF001
                walked = WalkedRecords(result._partition_records, raw, highwater)  # noqa: SLF001
                result._partition_records = FetchedRecords(walked)  # noqa: SLF001
        return has_new
