"""The application of ``tunestream service run curriculum-gate``."""

from __future__ import annotations

from tunestream.artifacts import ArtifactStore
from tunestream.config.settings import KafkaSettings, ServiceSettings, StoreSettings
from tunestream.domain.gate.core import CurriculumGate
from tunestream.streams.runs import RunDirectory
from tunestream.streams.runtime.service import build_app
from tunestream.streams.tasks.plan import Plan
from tunestream.topics import changelog_of
from tunestream_services.curriculum_gate.handler import GateHandler
from tunestream_services.curriculum_gate.settings import GateSettings

__all__ = ["app"]

SERVICE = "curriculum-gate"
_COUNTED = (
    "all_held_out",
    "dropped_duplicate",
    "dropped_empty",
    "dropped_live_scores",
    "dropped_low_spread",
    "dropped_no_trajectories",
    "dropped_percentile",
    "dropped_subsample",
    "empty_selection",
)
kafka = KafkaSettings()
settings = GateSettings()
runs = RunDirectory(kafka)
store = ArtifactStore(StoreSettings().artifacts)

app = build_app(
    Plan(
        service=SERVICE,
        inputs=("trajectories",),
        changelog=changelog_of(SERVICE),
        new_handler=lambda partition: GateHandler(
            CurriculumGate(runs.config, partition=partition, writes=lambda: runs.format),
            runs,
            store,
            settings.store_deadline_seconds,
        ),
        kafka=kafka,
        format=lambda: runs.format,
        keep=lambda content: store.put_bytes(content).uri,
        counted=_COUNTED,
    ),
    ServiceSettings(),
    resources=[runs],
)
