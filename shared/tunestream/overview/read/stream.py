"""Looks twice at how far the services are behind."""

from __future__ import annotations

import asyncio
from time import monotonic

from tunestream.config.settings import KafkaSettings
from tunestream.overview.facts import LagFacts
from tunestream.streams.broker.groups import group_lags
from tunestream.topics import INPUTS

__all__ = ["read_lags"]


async def read_lags(settings: KafkaSettings, seconds: float) -> list[LagFacts]:
    """Return how far each service is behind on each input, now and ``seconds`` later.

    Where nothing waits the first look is enough.

    Raises:
        MissingTopic: when an input does not exist.
        BrokerUnavailable: when no broker answers.
    """
    began = monotonic()
    first = await group_lags(settings, INPUTS)
    if not any(found.lag for found in first):
        return [LagFacts(found, found, 0.0) for found in first]
    await asyncio.sleep(seconds)
    second = await group_lags(settings, INPUTS)
    passed = monotonic() - began
    return [LagFacts(before, after, passed) for before, after in zip(first, second, strict=True)]
