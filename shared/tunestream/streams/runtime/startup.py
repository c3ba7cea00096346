"""The start of a service: services and broker are often started together."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from aiokafka.client import AIOKafkaClient
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_delay,
    wait_exponential,
)

from tunestream.config.settings import KafkaSettings
from tunestream.streams.broker.client import client_options
from tunestream.streams.broker.unavailable import BrokerUnavailable, reaching
from tunestream.streams.runtime.lifecycle import Stage

__all__ = ["BrokerAway", "await_broker"]

log = structlog.get_logger(__name__)


class BrokerAway(Exception):
    """The broker did not answer in time."""


async def await_broker(settings: KafkaSettings, deadline: float, stage: Stage) -> None:
    """Wait until the broker answers.

    Args:
        settings: the broker.
        deadline: seconds.
        stage: of the service: what it waits for is noted there.

    Raises:
        BrokerAway: when it did not answer in time.
    """
    stage.waiting = f"it waits for the broker at {settings.bootstrap_servers}"

    def away(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        reason = error.reason if isinstance(error, BrokerUnavailable) else str(error)
        stage.waiting = f"it waits for the broker at {settings.bootstrap_servers}: {reason}"
        log.warning("broker.away", attempt=state.attempt_number, reason=reason)

    try:
        await _connect(settings, deadline, away)
    except BrokerUnavailable as error:
        raise BrokerAway(f"{error.problem}, for {deadline:.0f} s. {error.remedy}") from None


async def _connect(settings: KafkaSettings, deadline: float, away: Callable[[RetryCallState], None]) -> None:
    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type(BrokerUnavailable),
        stop=stop_after_delay(deadline),
        wait=wait_exponential(multiplier=0.1, max=2.0),
        before_sleep=away,
        reraise=True,
    ):
        with attempt:
            client = AIOKafkaClient(**client_options(settings))
            try:
                async with reaching(settings):
                    await client.bootstrap()
            finally:
                await client.close()
