"""The client for topics, their settings and groups."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiokafka.admin import AIOKafkaAdminClient

from tunestream.streams.broker.options import client_options
from tunestream.streams.broker.unavailable import reaching

if TYPE_CHECKING:
    from tunestream.config.settings import KafkaSettings

__all__ = ["administration"]


@asynccontextmanager
async def administration(settings: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    """Start an admin client, and close it with the block.

    Raises:
        BrokerUnavailable: when no broker answers the start.
    """
    admin = AIOKafkaAdminClient(**client_options(settings))
    try:
        async with reaching(settings):
            await admin.start()
        yield admin
    finally:
        await admin.close()
