"""The start of a service: services and broker are often started together."""

from __future__ import annotations

import structlog
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_delay,
    wait_exponential,
)

from tunestream.config.settings import KafkaSettings
from tunestream.streams.client import client_options

__all__ = ["await_broker"]

log = structlog.get_logger(__name__)


async def await_broker(settings: KafkaSettings, deadline: float) -> None:
    """Wait until the broker answers.

    Args:
        settings: the broker.
        deadline: seconds.

    Raises:
        KafkaConnectionError: when it did not answer in time.
    """
    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type(KafkaConnectionError),
        stop=stop_after_delay(deadline),
        wait=wait_exponential(multiplier=0.1, max=2.0),
        before_sleep=_log_away,
        reraise=True,
    ):
        with attempt:
            client = AIOKafkaClient(**client_options(settings))
            try:
                await client.bootstrap()
            finally:
                await client.close()


def _log_away(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.warning("broker.away", attempt=state.attempt_number, reason=str(error))
