"""The rows of a dataset: what the curriculum gate writes and a trainer reads."""

from __future__ import annotations

from tunestream.events.base import FiniteFloat, Identifier, Sparse, Wire
from tunestream.events.messages import Prompt
from tunestream.events.trajectories import EpisodeItem

__all__ = ["DatasetRow", "EpisodeRow", "PreferenceRow", "ResponseRow"]


class PreferenceRow(Wire):
    """One line of a preference dataset: to ``prompt``, ``chosen`` is better than ``rejected``.

    A ``str`` prompt is one user message where the model's tokenizer has a chat template, and plain
    text where it has none.
    """

    group_id: Identifier
    example_id: str
    turn_id: str
    prompt: Prompt
    chosen: str
    rejected: str
    chosen_score: FiniteFloat
    rejected_score: FiniteFloat
    reward: FiniteFloat
    policy_version: str | None = None


class EpisodeRow(Wire):
    """One line of an episode dataset; rows of one group answer the same example."""

    group_id: Identifier
    example_id: str
    items: list[EpisodeItem]
    reward: FiniteFloat
    policy_version: str | None = None


class ResponseRow(Sparse):
    """One line of a dataset of responses; the prompt is read as in a preference dataset.

    A response is good unless ``label`` is false.
    """

    prompt: Prompt
    response: str
    label: bool | None = None


DatasetRow = PreferenceRow | EpisodeRow | ResponseRow
