"""The ends of partitions are asked for over one connection."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
from aiokafka import TopicPartition

from tunestream.config.settings import KafkaSettings
from tunestream.streams.broker import watermarks
from tunestream.streams.broker.watermarks import Watermarks

PLACE = TopicPartition("topic", 0)


class Client:
    """Counts how often one is made, and how often one is stopped."""

    made = 0
    stopped = 0

    def __init__(self) -> None:
        Client.made += 1

    async def start(self) -> None:
        await asyncio.sleep(0)

    async def stop(self) -> None:
        Client.stopped += 1

    async def end_offsets(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, 7)


async def test_those_who_ask_at_once_share_a_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watermarks, "make_consumer", lambda *_, **__: Client())
    ends = Watermarks(KafkaSettings())
    found = await asyncio.gather(*(ends.ends([PLACE]) for _ in range(4)))
    assert found == [{PLACE: 7}] * 4
    assert (Client.made, Client.stopped) == (1, 0), "a client that is stopped as it starts ends who waits"
    await ends.close()
    assert Client.stopped == 1
