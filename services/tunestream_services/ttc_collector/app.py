"""The application of ``tunestream service run ttc-collector``."""

from __future__ import annotations

from tunestream.config.settings import KafkaSettings, ServiceSettings
from tunestream.domain.collector.core import Collector
from tunestream.streams.runs import RunDirectory
from tunestream.streams.service import build_app
from tunestream.streams.task import Plan
from tunestream.topics import changelog_of
from tunestream_services.ttc_collector.handler import CollectorHandler
from tunestream_services.ttc_collector.settings import CollectorSettings

__all__ = ["app"]

SERVICE = "ttc-collector"
kafka = KafkaSettings()
grace_ms = int(CollectorSettings().grace_seconds * 1000)
runs = RunDirectory(kafka)

app = build_app(
    Plan(
        service=SERVICE,
        inputs=("ttc.events",),
        changelog=changelog_of(SERVICE),
        new_handler=lambda partition: CollectorHandler(Collector(partition, grace_ms), runs),
        kafka=kafka,
        format=lambda: runs.format,
    ),
    ServiceSettings(),
    resources=[runs],
)
