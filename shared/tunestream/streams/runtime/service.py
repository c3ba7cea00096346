"""A service as FastStream runs it: the runtime around one batch subscriber, health, metrics."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import structlog
from aiokafka import ConsumerRecord
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from faststream import AckPolicy
from faststream.asgi import AsgiResponse, AsyncAPIRoute, get
from faststream.asgi.types import Scope
from faststream.kafka import KafkaBroker, KafkaMessage
from faststream.kafka.message import FAKE_CONSUMER
from faststream.kafka.prometheus import KafkaPrometheusMiddleware
from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512
from prometheus_client import REGISTRY, make_asgi_app

from tunestream import __version__
from tunestream.config.settings import KafkaSettings, LogSettings, ServiceSettings
from tunestream.events.runs import NewerFormat
from tunestream.streams.broker.client import FETCH_BYTES
from tunestream.streams.broker.options import ssl_context
from tunestream.streams.fetch.group_consumer import GroupConsumer
from tunestream.streams.runtime.garbage_collection import calm_garbage_collector, return_large_blocks
from tunestream.streams.runtime.health import Health
from tunestream.streams.runtime.lifecycle import HANDLER_SHARE, ServiceApp, Stage
from tunestream.streams.runtime.runtime import Runtime
from tunestream.streams.runtime.startup import await_broker, await_inputs
from tunestream.streams.table import Table
from tunestream.streams.tasks.plan import Plan
from tunestream.streams.watch import metrics
from tunestream.telemetry import configure_logging
from tunestream.topics import topic

__all__ = ["build_app"]

log = structlog.get_logger(__name__)
_SASL = {"PLAIN": SASLPlaintext, "SCRAM-SHA-256": SASLScram256, "SCRAM-SHA-512": SASLScram512}
# How long the broker may hold an empty fetch: bounds how late silence is noticed.
_FETCH_WAIT_MS = 100
# How soon an input is noticed that was deleted or created, or to which somebody added partitions: until then
# nobody reads it.
_METADATA_AGE_MS = 2_000


def build_app(
    plan: Plan,
    settings: ServiceSettings,
    resources: Sequence[AbstractAsyncContextManager[object]] = (),
    warnings: Callable[[], Sequence[str]] = tuple,
) -> ServiceApp:
    """Return the ASGI application of one service.

    Args:
        plan: inputs, state and handlers.
        settings: of this replica.
        resources: entered before the first record and left after the last, e.g. tables.
        warnings: what is wrong elsewhere; shown with readiness, which they do not change.

    Raises:
        RuntimeError: in a worker of ``--workers``: two members with one id displace each other.
    """
    if multiprocessing.parent_process() is not None:
        raise RuntimeError(
            f"{plan.service} runs as one process; start more replicas, each with its own "
            "TUNESTREAM_REPLICA, instead of --workers"
        )
    return_large_blocks()
    configure_logging(LogSettings(), service=plan.service, replica=settings.replica)
    stage = Stage()
    runtime = Runtime(plan, settings, stage)
    if plan.changelog is not None and topic(plan.changelog).types:
        metrics.TABLE_SKIPPED.labels(plan.kafka.topic(plan.changelog))
    tables = [resource for resource in resources if isinstance(resource, Table)]
    for table in tables:
        metrics.TABLE_SKIPPED.labels(table.topic)
        table.on_skip(lambda topic: metrics.TABLE_SKIPPED.labels(topic).inc())

    def all_warnings() -> list[str]:
        return [
            *warnings(),
            *runtime.warnings(),
            *(line for table in tables for line in table.warnings()),
        ]

    @asynccontextmanager
    async def lifespan(**_options: object) -> AsyncIterator[None]:
        await await_broker(plan.kafka, settings.startup_seconds, stage)
        await await_inputs(plan, stage)
        stage.waiting = "it reads its tables"
        async with AsyncExitStack() as stack:
            for resource in (*resources, runtime):
                await stack.enter_async_context(resource)
            _check_format(plan)
            calm_garbage_collector()
            yield

    return ServiceApp(
        _broker(plan, settings, runtime),
        stage=stage,
        stop_seconds=settings.shutdown_seconds,
        logger=None,
        lifespan=lifespan,
        asgi_routes=[
            ("/health/live", _health(runtime.live)),
            ("/health/ready", _health(runtime.ready, all_warnings)),
            ("/info", _info(plan, settings)),
            ("/metrics", make_asgi_app(REGISTRY)),
        ],
        # Without the page from which anybody could send messages.
        asyncapi_path=AsyncAPIRoute("/asyncapi", try_it_out_path=None),
    )


class _Broker(KafkaBroker):
    """FastStream's broker, with consumers of our class."""

    def __init__(self, *servers: str, consumer: Mapping[str, Any], **options: Any) -> None:
        super().__init__(*servers, **options)
        self._consumer = consumer

    async def _connect(self) -> Callable[..., Any]:
        """Connect, which makes the builder of the consumers."""
        plain = await super()._connect()
        assert isinstance(plain, partial)
        ours = partial(GroupConsumer, **self._consumer, **plain.keywords)
        self.config.broker_config.builder = ours
        return ours


def _framework_log() -> logging.Logger:
    """Return the log of FastStream: its errors, without a line for each poll and each start."""
    framework = logging.getLogger("faststream")
    framework.setLevel(logging.ERROR)
    return framework


def _check_format(plan: Plan) -> None:
    """Make sure that this release reads what the deployment writes.

    Raises:
        NewerFormat: with the remedy.
    """
    try:
        plan.format()
    except NewerFormat as error:
        log.critical("service.refused", service=plan.service, reason=str(error))
        raise


def _broker(plan: Plan, settings: ServiceSettings, runtime: Runtime) -> KafkaBroker:
    broker = _Broker(
        plan.kafka.bootstrap_servers,
        client_id=f"{plan.group}-{settings.replica}",
        security=_security(plan.kafka),
        allow_auto_create_topics=False,
        metadata_max_age_ms=_METADATA_AGE_MS,
        graceful_timeout=settings.shutdown_seconds * HANDLER_SHARE,
        middlewares=[KafkaPrometheusMiddleware(registry=REGISTRY, app_name=plan.service)],
        apply_types=False,
        logger=_framework_log(),
        consumer={"put_back": runtime.put_back, "leaves": plan.leaves},
    )
    subscriber = broker.subscriber(
        *(plan.kafka.topic(name) for name in plan.inputs),
        group_id=plan.group,
        group_instance_id=f"{plan.group}-{settings.replica}",
        batch=True,
        max_records=settings.max_records_per_commit * plan.kafka.partitions,
        batch_timeout_ms=settings.commit_interval_ms,
        ack_policy=AckPolicy.MANUAL,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        partition_assignment_strategy=[RangePartitionAssignor],
        session_timeout_ms=int(settings.session_timeout_seconds * 1000),
        heartbeat_interval_ms=int(settings.session_timeout_seconds * 1000 / 5),
        max_partition_fetch_bytes=FETCH_BYTES,
        fetch_max_wait_ms=_FETCH_WAIT_MS,
        listener=runtime,
        parser=_raw_message,
        decoder=_raw_records,
    )

    @subscriber
    async def consume(records: tuple[ConsumerRecord, ...]) -> None:
        await runtime.consume(records)

    runtime.attach(subscriber)
    return broker


def _security(settings: KafkaSettings) -> BaseSecurity:
    context = ssl_context(settings) if settings.security_protocol.endswith("SSL") else None
    if not settings.security_protocol.startswith("SASL"):
        return BaseSecurity(ssl_context=context)
    assert settings.sasl_username is not None
    assert settings.sasl_password is not None
    return _SASL[settings.sasl_mechanism](
        settings.sasl_username, settings.sasl_password.get_secret_value(), ssl_context=context
    )


async def _raw_message(message: tuple[ConsumerRecord, ...]) -> KafkaMessage:
    """Leave the headers alone: FastStream's own parser fails on one that is not UTF-8."""
    first, last = message[0], message[-1]
    return KafkaMessage(
        body=[],
        headers={},
        raw_message=message,
        consumer=FAKE_CONSUMER,
        message_id=f"{first.topic}-{first.partition}-{first.offset}-{last.offset}",
        correlation_id="",
    )


async def _raw_records(message: KafkaMessage) -> tuple[ConsumerRecord, ...]:
    return message.raw_message


def _info(plan: Plan, settings: ServiceSettings) -> Any:
    """Return the page that shows which deployment this is: another's may listen at the same port."""
    place = {
        "service": plan.service,
        "replica": settings.replica,
        "version": __version__,
        "broker": plan.kafka.bootstrap_servers,
        "prefix": plan.kafka.topic_prefix,
    }
    body = json.dumps(place).encode()

    @get
    async def endpoint(scope: Scope) -> AsgiResponse:  # noqa: ARG001
        return AsgiResponse(body, 200, headers={"content-type": "application/json"})

    return endpoint


def _health(check: Callable[[], Any], warnings: Callable[[], Sequence[str]] = tuple) -> Any:
    @get
    async def endpoint(scope: Scope) -> AsgiResponse:  # noqa: ARG001
        found = check()
        health: Health = found if isinstance(found, Health) else await found
        report = {
            "ok": health.ok,
            "reasons": health.reasons,
            "warnings": list(warnings()),
            "pid": os.getpid(),  # who listens at this port may be another's service
        }
        body = json.dumps(report).encode()
        return AsgiResponse(body, 200 if health.ok else 503, headers={"content-type": "application/json"})

    return endpoint
