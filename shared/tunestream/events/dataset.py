"""The rows of a dataset: what the curriculum gate writes and a trainer reads."""

from __future__ import annotations

from tunestream.events.base import FiniteFloat, Identifier, Sparse
from tunestream.events.messages import Prompt, Response, TokenIds, Tools
from tunestream.events.trajectories import EpisodeItem

__all__ = ["DatasetRow", "EpisodeRow", "PreferenceRow", "ResponseRow"]


class PreferenceRow(Sparse):
    """One line of a preference dataset: to ``prompt``, ``chosen`` is better than ``rejected``.

    A ``str`` prompt is one user message where the model's tokenizer has a chat template, and plain
    text where it has none. A response is text, or the assistant's message where there is more than text.
    """

    group_id: Identifier
    example_id: str
    turn_id: str
    prompt: Prompt
    chosen: Response
    rejected: Response
    chosen_score: FiniteFloat
    rejected_score: FiniteFloat
    reward: FiniteFloat
    policy_version: str | None = None
    tools: Tools | None = None
    prompt_token_ids: TokenIds | None = None
    chosen_token_ids: TokenIds | None = None
    rejected_token_ids: TokenIds | None = None


class EpisodeRow(Sparse):
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
    response: Response
    label: bool | None = None


DatasetRow = PreferenceRow | EpisodeRow | ResponseRow
