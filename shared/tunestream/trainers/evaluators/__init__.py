"""Evaluators of a run's own: functions of installed packages, and HTTP endpoints."""

from tunestream.trainers.evaluators.dispatch import ask
from tunestream.trainers.evaluators.request import (
    EvaluationRequest,
    EvaluationTask,
    EvaluatorFailed,
    Policy,
    PolicyRef,
    held_out_items,
)

__all__ = [
    "EvaluationRequest",
    "EvaluationTask",
    "EvaluatorFailed",
    "Policy",
    "PolicyRef",
    "ask",
    "held_out_items",
]
