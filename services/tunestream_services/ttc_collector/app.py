"""The application of ``tunestream service run ttc-collector``."""

from __future__ import annotations

from tunestream.config.settings import KafkaSettings, ServiceSettings
from tunestream.domain.collector.core import Collector
from tunestream.streams.runs import RunDirectory
from tunestream.streams.runtime.service import build_app
from tunestream.streams.tasks.handler import Handler
from tunestream.streams.tasks.plan import Plan
from tunestream.topics import changelog_of
from tunestream_services.ttc_collector.handler import CollectorHandler
from tunestream_services.ttc_collector.settings import CollectorSettings

__all__ = ["app"]

SERVICE = "ttc-collector"
kafka = KafkaSettings()
settings = CollectorSettings()
runs = RunDirectory(kafka)


def new_handler(partition: int) -> Handler:
    """Return the handler of one partition, without state."""
    core = Collector(partition, replay=settings.replay)
    return CollectorHandler(core, runs, replay=settings.replay)


app = build_app(
    Plan(
        service=SERVICE,
        inputs=("ttc.events",),
        changelog=changelog_of(SERVICE),
        new_handler=new_handler,
        kafka=kafka,
        format=lambda: runs.format,
        retired=("TUNESTREAM_COLLECTOR_GRACE_SECONDS",),
        counted=("dropped_message_key", "duplicate", "ignored_step", "log_time_ignored"),
    ),
    ServiceSettings(),
    resources=[runs],
)
