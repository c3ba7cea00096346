"""One deployment for the tests that kill nothing: each of them has runs of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from tests.helpers.services import Deployment, ServiceProcess
from tunestream.config.settings import KafkaSettings
from tunestream.streams.admin import apply_topics

_SERVICES = ("ttc_collector", "pair_builder", "curriculum_gate", "trainer")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def deployment(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    """All four services, ready, with topics of their own on the shared broker."""
    settings = KafkaSettings(bootstrap_servers=kafka, topic_prefix="shared.")
    folder = tmp_path_factory.mktemp("deployment")
    await apply_topics(settings)
    async with AsyncExitStack() as stack:
        services = [ServiceProcess(name, settings, folder) for name in _SERVICES]
        for service in services:
            service.start()
            stack.push_async_exit(service.__aexit__)
        for service in services:
            await service.ready()
        yield Deployment(settings, folder)
