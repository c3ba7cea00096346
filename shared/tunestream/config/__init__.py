"""Run configuration and service settings.

A run's YAML file is read by :func:`load_run`; how a process is deployed is in
:mod:`tunestream.config.settings`.
"""

from tunestream.config.base import Section
from tunestream.config.curriculum import CurriculumLearningConfig
from tunestream.config.differences import DIFFERENCES, Difference
from tunestream.config.durations import Duration, format_duration, milliseconds, parse_duration
from tunestream.config.errors import ConfigError, Problem
from tunestream.config.evaluation import (
    EvaluationConfig,
    Evaluator,
    HTTPEvaluatorConfig,
    LiveConfig,
    PythonEvaluatorConfig,
)
from tunestream.config.finetune import FinetuneConfig, FinetuneRunConfig, RewardFunctionConfig
from tunestream.config.loading import Loaded, LoadedRun, OfflineSection, load_offline, load_run, parse_run
from tunestream.config.model import BitsAndBytesConfig, InferenceConfig, LoraConfig, ModelConfig
from tunestream.config.nemo import (
    DPOSpecificHyperparameters,
    LoRASpecificHyperparameters,
    NeMoCustomizerHyperparameters,
    NIMDeploymentConfig,
    SFTSpecificHyperparameters,
)
from tunestream.config.run import (
    BatchingConfig,
    OfflineConfig,
    RunConfig,
    json_schema,
)
from tunestream.config.serving import ServingConfig
from tunestream.config.trainers import (
    ARTBackendConfig,
    ARTTrainerAdapterConfig,
    ARTTrainingConfig,
    NeMoCustomizerTrainerAdapterConfig,
    Trainer,
    TrainerSection,
    TRLTrainerConfig,
)
from tunestream.config.training import (
    TRL_NAMES,
    DPOArgs,
    GRPOArgs,
    KTOArgs,
    SftArgs,
    TrainingArgs,
    TrainingConfig,
)
from tunestream.config.trajectory_builder import (
    ARTTrajectoryBuilderConfig,
    DPOTrajectoryBuilderConfig,
    TrajectoryBuilder,
)

__all__ = [
    "DIFFERENCES",
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
    "Difference",
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
