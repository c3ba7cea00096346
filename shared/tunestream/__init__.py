"""Continuous online fine-tuning as event-driven microservices.

The names of the NeMo Agent Toolkit's fine-tuning are here, each imported when it is asked for.
"""

from typing import TYPE_CHECKING

from tunestream.lazy_names import lazy_names

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tunestream.config.nat.finetune import FinetuneConfig, FinetuneRunConfig
    from tunestream.config.run.bases import (
        TrainerAdapterConfig,
        TrainerAdapterConfigT,
        TrainerConfig,
        TrainerConfigT,
        TrajectoryBuilderConfig,
        TrajectoryBuilderConfigT,
    )
    from tunestream.config.run.curriculum import CurriculumLearningConfig
    from tunestream.config.run.reward import RewardFunctionConfig
    from tunestream.config.run.trajectory_builder import (
        ARTTrajectoryBuilderConfig,
        DPOTrajectoryBuilderConfig,
    )
    from tunestream.events.messages import OpenAIMessage
    from tunestream.events.training import TrainingJobRef, TrainingJobStatus, TrainingStatusEnum
    from tunestream.events.trajectories import (
        DPOItem,
        EpisodeItem,
        EpisodeItemRole,
        Trajectory,
        TrajectoryCollection,
    )
    from tunestream.sdk.trajectory_builder import DPOTrajectoryBuilder
    from tunestream.trainers.art.backend import ARTTrainerAdapter
    from tunestream.trainers.art.config import ARTTrainerAdapterConfig
    from tunestream.trainers.harness import TrainerAdapter
    from tunestream.trainers.nemo.backend import NeMoCustomizerTrainerAdapter
    from tunestream.trainers.nemo.config import NeMoCustomizerTrainerAdapterConfig
    from tunestream.trainers.trl.backend import TRLTrainerAdapter
    from tunestream.trainers.trl.config import TRLTrainerConfig
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "ARTTrainerAdapter": "tunestream.trainers.art.backend",
            "ARTTrainerAdapterConfig": "tunestream.trainers.art.config",
            "ARTTrajectoryBuilderConfig": "tunestream.config.run.trajectory_builder",
            "CurriculumLearningConfig": "tunestream.config.run.curriculum",
            "DPOItem": "tunestream.events.trajectories",
            "DPOTrajectoryBuilder": "tunestream.sdk.trajectory_builder",
            "DPOTrajectoryBuilderConfig": "tunestream.config.run.trajectory_builder",
            "EpisodeItem": "tunestream.events.trajectories",
            "EpisodeItemRole": "tunestream.events.trajectories",
            "FinetuneConfig": "tunestream.config.nat.finetune",
            "FinetuneRunConfig": "tunestream.config.nat.finetune",
            "NeMoCustomizerTrainerAdapter": "tunestream.trainers.nemo.backend",
            "NeMoCustomizerTrainerAdapterConfig": "tunestream.trainers.nemo.config",
            "OpenAIMessage": "tunestream.events.messages",
            "RewardFunctionConfig": "tunestream.config.run.reward",
            "TRLTrainerAdapter": "tunestream.trainers.trl.backend",
            "TRLTrainerConfig": "tunestream.trainers.trl.config",
            "TrainerAdapter": "tunestream.trainers.harness",
            "TrainerAdapterConfig": "tunestream.config.run.bases",
            "TrainerAdapterConfigT": "tunestream.config.run.bases",
            "TrainerConfig": "tunestream.config.run.bases",
            "TrainerConfigT": "tunestream.config.run.bases",
            "TrainingJobRef": "tunestream.events.training",
            "TrainingJobStatus": "tunestream.events.training",
            "TrainingStatusEnum": "tunestream.events.training",
            "Trajectory": "tunestream.events.trajectories",
            "TrajectoryBuilderConfig": "tunestream.config.run.bases",
            "TrajectoryBuilderConfigT": "tunestream.config.run.bases",
            "TrajectoryCollection": "tunestream.events.trajectories",
        },
    )

__all__ = [
    "ARTTrainerAdapter",
    "ARTTrainerAdapterConfig",
    "ARTTrajectoryBuilderConfig",
    "CurriculumLearningConfig",
    "DPOItem",
    "DPOTrajectoryBuilder",
    "DPOTrajectoryBuilderConfig",
    "EpisodeItem",
    "EpisodeItemRole",
    "FinetuneConfig",
    "FinetuneRunConfig",
    "NeMoCustomizerTrainerAdapter",
    "NeMoCustomizerTrainerAdapterConfig",
    "OpenAIMessage",
    "RewardFunctionConfig",
    "TRLTrainerAdapter",
    "TRLTrainerConfig",
    "TrainerAdapter",
    "TrainerAdapterConfig",
    "TrainerAdapterConfigT",
    "TrainerConfig",
    "TrainerConfigT",
    "TrainingJobRef",
    "TrainingJobStatus",
    "TrainingStatusEnum",
    "Trajectory",
    "TrajectoryBuilderConfig",
    "TrajectoryBuilderConfigT",
    "TrajectoryCollection",
    "__version__",
]
