"""What stages write for one another: test rows, answers, and what they were judged to be."""

from __future__ import annotations

from pydantic import Field

from tunestream.events.base import FiniteFloat, Wire
from tunestream.events.messages import Prompt

__all__ = ["MetricEstimate", "QaResult", "ResultRow", "TestBank", "TestRow"]


class TestRow(Wire):
    """One line of ``test.jsonl``."""

    __test__ = False

    id: str
    prompt: Prompt = Field(
        description="a text is one user message where the model has a chat template, else plain text"
    )
    ground_truth: str


class ResultRow(TestRow):
    """One line of ``results.jsonl``; ``results.csv`` has Prompt, Ground Truth and Predicted."""

    predicted: str
    error: str | None = Field(default=None, description="why there is no answer; `predicted` is empty then")


class MetricEstimate(Wire):
    """The mean over ``rows`` rows, with its bootstrap interval; rows of one prompt are drawn together.

    The interval of a single prompt has no ends.
    """

    mean: FiniteFloat
    low: FiniteFloat | None
    high: FiniteFloat | None
    rows: int


class TestBank(Wire):
    """One CSV bank: how many of its tests passed, with the tuned model's answers."""

    __test__ = False

    name: str
    passed: int
    failed: int


class QaResult(Wire):
    """``metrics.json``: each metric of the tuned model, of the baseline, and paired tuned - baseline."""

    tuned: dict[str, MetricEstimate]
    baseline: dict[str, MetricEstimate] = Field(default_factory=dict)
    difference: dict[str, MetricEstimate] = Field(default_factory=dict)
    failures: dict[str, dict[str, int]] = Field(
        default_factory=dict, description="metric → why it could not be taken → of how many answers"
    )
    tests: list[TestBank] = Field(default_factory=list)
