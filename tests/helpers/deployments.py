"""One deployment for all tests that it serves as it is: each of them has runs of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Final

import pytest
import pytest_asyncio

from tests.helpers.services import Deployment, ServiceProcess
from tunestream.config.settings import KafkaSettings
from tunestream.streams.admin import apply_topics

__all__ = ["ATTEMPTS", "CANCEL_GRACE", "deployment"]

# Seconds; long enough for a step and a checkpoint on a busy machine.
CANCEL_GRACE: Final = 15.0
ATTEMPTS: Final = 3
_SERVICES: Final = ("ttc_collector", "pair_builder", "curriculum_gate", "trainer")
_ENVIRONMENT: Final = {
    "TUNESTREAM_TRAINER_ATTEMPT_DELAY_SECONDS": "0.05",
    "TUNESTREAM_TRAINER_MAX_ATTEMPTS": str(ATTEMPTS),
    "TUNESTREAM_TRAINER_CANCEL_GRACE_SECONDS": str(CANCEL_GRACE),
    "TUNESTREAM_TRAINER_SERVING_CHECK_SECONDS": "0.2",
    "TUNESTREAM_TRAINER_SERVING_RETRY_SECONDS": "0.5",
}


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def deployment(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    """All four services, ready, with topics of their own on the shared broker."""
    settings = KafkaSettings(bootstrap_servers=kafka, topic_prefix="shared.")
    folder = tmp_path_factory.mktemp("deployment")
    await apply_topics(settings)
    services = {name: ServiceProcess(name, settings, folder, env=_ENVIRONMENT) for name in _SERVICES}
    async with AsyncExitStack() as stack:
        for service in services.values():
            service.start()
            stack.push_async_exit(service.__aexit__)
        for service in services.values():
            await service.ready()
        yield Deployment(settings, folder, services)
