"""Judging answers: metrics with intervals, and pass/fail tests."""

from tunestream.experiments.qa.banks import read_banks
from tunestream.experiments.qa.metrics import check_metrics, known_metrics
from tunestream.experiments.qa.run import DEFAULT_EMBEDDING_MODEL, SCORES, evaluate
from tunestream.experiments.qa.scores import ScoreRow

__all__ = [
    "DEFAULT_EMBEDDING_MODEL",
    "SCORES",
    "ScoreRow",
    "check_metrics",
    "evaluate",
    "known_metrics",
    "read_banks",
]
