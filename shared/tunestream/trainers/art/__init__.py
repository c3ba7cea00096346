"""Training by OpenPipe ART; needs the extra ``art``. ART is loaded by a worker process only."""

from tunestream.trainers.art.adapter import ARTTrainerAdapter
from tunestream.trainers.art.probe import check_service
from tunestream.trainers.art.settings import ARTSettings
from tunestream.trainers.art.worker import ARTWorkerHandle

__all__ = ["ARTSettings", "ARTTrainerAdapter", "ARTWorkerHandle", "check_service"]
