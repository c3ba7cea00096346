"""The start of a service: services and broker are often started together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

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
from tunestream.streams.broker.metadata import known_counts
from tunestream.streams.broker.options import client_options
from tunestream.streams.broker.topic_plan import UnequalPartitions, check_equal
from tunestream.streams.broker.unavailable import BrokerUnavailable, reaching
from tunestream.streams.runtime.lifecycle import Stage
from tunestream.streams.tasks.plan import Plan
from tunestream.streams.watch import metrics
from tunestream.streams.watch.missing import missing_input

__all__ = ["BrokerAway", "await_broker", "await_inputs"]

log = structlog.get_logger(__name__)
_LOOK_SECONDS: Final = 1.0


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


async def await_inputs(plan: Plan, stage: Stage) -> None:
    """Wait until every input is there, which the client itself would not, and check the counts of partitions.

    Args:
        plan: of the service.
        stage: of the service: what it waits for is noted there.

    Raises:
        UnequalPartitions: when topics whose partitions belong together have not equally many.
        BrokerUnavailable: when no broker answers.
    """
    noted: list[str] = []
    names = {plan.kafka.topic(name): name for name in plan.topics}
    while True:
        found = await known_counts(plan.kafka, names)
        missing = [full for name in plan.inputs if (full := plan.kafka.topic(name)) not in found]
        if not missing:
            break
        stage.waiting = "; ".join(map(missing_input, missing))
        for full in set(missing).difference(noted):
            metrics.INPUT_MISSING.labels(plan.service, full).set(1)
            log.error("input.missing", service=plan.service, topic=full)
        noted = missing
        await asyncio.sleep(_LOOK_SECONDS)
    try:
        check_equal(plan.service, {names[full]: count for full, count in found.items()})
    except UnequalPartitions as error:
        log.critical("service.refused", service=plan.service, reason=str(error))
        raise


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
