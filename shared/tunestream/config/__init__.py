"""Run configuration and service settings.

A run's YAML file is read by :func:`load_run`; how a process is deployed is in
:mod:`tunestream.config.settings`.
"""

from tunestream.config.files.errors import ConfigError, Problem
from tunestream.config.nat.finetune import FinetuneConfig, FinetuneRunConfig, RewardFunctionConfig
from tunestream.config.run.curriculum import CurriculumLearningConfig
from tunestream.config.run.durations import Duration, format_duration, milliseconds, parse_duration
from tunestream.config.run.evaluation import (
    EvaluationConfig,
    Evaluator,
    HTTPEvaluatorConfig,
    LiveConfig,
    PythonEvaluatorConfig,
)
from tunestream.config.run.loading import Loaded, LoadedRun, OfflineSection, load_offline, load_run, parse_run
from tunestream.config.run.model import BitsAndBytesConfig, InferenceConfig, LoraConfig, ModelConfig
from tunestream.config.run.nemo import (
    DPOSpecificHyperparameters,
    LoRASpecificHyperparameters,
    NeMoCustomizerHyperparameters,
    NIMDeploymentConfig,
    SFTSpecificHyperparameters,
)
from tunestream.config.run.run import (
    BatchingConfig,
    OfflineConfig,
    RunConfig,
    json_schema,
)
from tunestream.config.run.section import Section
from tunestream.config.run.serving import ServingConfig
from tunestream.config.run.trainers import (
    ARTBackendConfig,
    ARTTrainerAdapterConfig,
    ARTTrainingConfig,
    NeMoCustomizerTrainerAdapterConfig,
    Trainer,
    TrainerSection,
    TRLTrainerConfig,
)
from tunestream.config.run.training import (
    TRL_NAMES,
    DPOArgs,
    GRPOArgs,
    KTOArgs,
    SftArgs,
    TrainingArgs,
    TrainingConfig,
)
from tunestream.config.run.trajectory_builder import (
    ARTTrajectoryBuilderConfig,
    DPOTrajectoryBuilderConfig,
    TrajectoryBuilder,
)

__all__ = [
    "TRL_NAMES",
    "ARTBackendConfig",
    "ARTTrainerAdapterConfig",
    "ARTTrainingConfig",
    "ARTTrajectoryBuilderConfig",
    "BatchingConfig",
    "BitsAndBytesConfig",
    "ConfigError",
    "CurriculumLearningConfig",
    "DPOArgs",
    "DPOSpecificHyperparameters",
    "DPOTrajectoryBuilderConfig",
    "Duration",
    "EvaluationConfig",
    "Evaluator",
    "FinetuneConfig",
    "FinetuneRunConfig",
    "GRPOArgs",
    "HTTPEvaluatorConfig",
    "InferenceConfig",
    "KTOArgs",
    "LiveConfig",
    "LoRASpecificHyperparameters",
    "Loaded",
    "LoadedRun",
    "LoraConfig",
    "ModelConfig",
    "NIMDeploymentConfig",
    "NeMoCustomizerHyperparameters",
    "NeMoCustomizerTrainerAdapterConfig",
    "OfflineConfig",
    "OfflineSection",
    "Problem",
    "PythonEvaluatorConfig",
    "RewardFunctionConfig",
    "RunConfig",
    "SFTSpecificHyperparameters",
    "Section",
    "ServingConfig",
    "SftArgs",
    "TRLTrainerConfig",
    "Trainer",
    "TrainerSection",
    "TrainingArgs",
    "TrainingConfig",
    "TrajectoryBuilder",
    "format_duration",
    "json_schema",
    "load_offline",
    "load_run",
    "milliseconds",
    "parse_duration",
    "parse_run",
]
