"""The application of ``tunestream service run trainer``."""

from __future__ import annotations

from tunestream.artifacts import ArtifactStore
from tunestream.config.settings import KafkaSettings, ServiceSettings, StoreSettings
from tunestream.serving import AdapterFolders
from tunestream.serving.updater import ServingUpdater
from tunestream.streams.runs import RunDirectory
from tunestream.streams.runtime.service import build_app
from tunestream.streams.tasks.plan import Plan
from tunestream_services.trainer.handler import TrainerHandler
from tunestream_services.trainer.models import ModelDirectory
from tunestream_services.trainer.scheduler import Scheduler
from tunestream_services.trainer.serving import OwnedRuns
from tunestream_services.trainer.settings import TrainerSettings

__all__ = ["app"]

SERVICE = "trainer"
kafka = KafkaSettings()
runs = RunDirectory(kafka, trainer="installed")
models = ModelDirectory(kafka)
store = ArtifactStore(StoreSettings().artifacts)
settings = TrainerSettings()
scheduler = Scheduler(runs, store, settings)
served = OwnedRuns(kafka, runs, models)
serving = ServingUpdater(served, AdapterFolders(store, settings.serving_folder), settings.serving_timing())

app = build_app(
    Plan(
        service=SERVICE,
        inputs=("training.batches", "training.control"),
        changelog="training.jobs",
        new_handler=lambda _partition: TrainerHandler(runs, models, scheduler, served),
        kafka=kafka,
        format=lambda: runs.format,
        keep=lambda content: store.put_bytes(content).uri,
        counted=("repeated_batch", "rolled_back_automatically"),
    ),
    ServiceSettings(),
    resources=[runs, models, scheduler, served, serving],
    warnings=lambda: [*serving.warnings(), *scheduler.warnings()],
)
