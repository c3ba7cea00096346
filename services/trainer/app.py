"""``faststream run services.trainer.app:app``."""

from __future__ import annotations

from services.trainer.handler import TrainerHandler
from services.trainer.models import ModelDirectory
from services.trainer.scheduler import Scheduler
from services.trainer.settings import TrainerSettings
from tunestream.artifacts import ArtifactStore
from tunestream.config.settings import KafkaSettings, ServiceSettings, StoreSettings
from tunestream.streams.runs import RunDirectory
from tunestream.streams.service import build_app
from tunestream.streams.task import Plan
from tunestream.trainers.trl import WorkerHandle

__all__ = ["app"]

SERVICE = "trainer"
kafka = KafkaSettings()
runs = RunDirectory(kafka)
models = ModelDirectory(kafka)
scheduler = Scheduler(runs, ArtifactStore(StoreSettings().artifacts), TrainerSettings(), WorkerHandle())

app = build_app(
    Plan(
        service=SERVICE,
        inputs=("training.batches", "training.control"),
        changelog="training.jobs",
        new_handler=lambda _partition: TrainerHandler(runs, models, scheduler),
        kafka=kafka,
    ),
    ServiceSettings(),
    resources=[runs, models, scheduler],
)
