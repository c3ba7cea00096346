"""How well a policy does on held-out rows, before and after its training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from tunestream.trainers.trl.examples import Episode, Marked, Preference
from tunestream.trainers.trl.scoring import Scores, score

__all__ = ["HeldOut", "HeldOutEpisodes", "HeldOutPreferences", "HeldOutResponses"]


class HeldOut(Protocol):
    """Held-out rows of one kind."""

    def score(self, trainer: Any) -> Sequence[Scores]:
        """Score the rows by the trainer's model as it is."""

    def compare(self, before: Sequence[Scores], after: Sequence[Scores]) -> dict[str, float]:
        """Return metrics of the parent and of the trained policy.

        - of preferences: ``validation_rows``, ``validation_accuracy_before`` and ``_after`` (share of rows
          whose chosen response is the likelier one), ``validation_margin_before`` and ``_after`` (mean
          difference of log-probabilities, nats); with dpo and kto also ``validation_reward_accuracy`` and
          ``validation_reward_margin`` (the implicit reward against the parent version);
        - of responses (sft): ``validation_responses``, ``validation_loss_before`` and ``_after`` (nats a
          token), ``validation_token_accuracy_before`` and ``_after``;
        - of episodes (grpo): ``validation_rows``, ``validation_advantage_gain`` (mean of advantage x gained
          log-probability, nats) and ``validation_logprob_gap`` (mean distance a token of the recorded
          log-probabilities from the parent's).
        """


class HeldOutPreferences:
    """Does the policy find the chosen responses likelier than the rejected ones?

    Args:
        pairs: the rows.
        limit: tokens of prompt and response that count.
        beta: of the implicit reward ``beta * (log p_policy - log p_parent)``; None for no rewards.
    """

    def __init__(self, pairs: Sequence[Preference], limit: int | None, beta: float | None) -> None:
        self._chosen = [Marked.of(pair.prompt_ids, pair.chosen_ids, limit) for pair in pairs]
        self._rejected = [Marked.of(pair.prompt_ids, pair.rejected_ids, limit) for pair in pairs]
        self._beta = beta

    def score(self, trainer: Any) -> Sequence[Scores]:
        """Score chosen and rejected responses."""
        return score(trainer, self._chosen), score(trainer, self._rejected)

    def compare(self, before: Sequence[Scores], after: Sequence[Scores]) -> dict[str, float]:
        """Return shares of rows, and mean differences of log-probabilities in nats."""
        first, last = (chosen.log_probs - rejected.log_probs for chosen, rejected in (before, after))
        metrics = {
            "validation_rows": float(len(self._chosen)),
            "validation_accuracy_before": _share(first),
            "validation_accuracy_after": _share(last),
            "validation_margin_before": first.mean().item(),
            "validation_margin_after": last.mean().item(),
        }
        if self._beta is not None:
            metrics["validation_reward_accuracy"] = _share(last - first)
            metrics["validation_reward_margin"] = self._beta * (last - first).mean().item()
        return metrics


class HeldOutResponses:
    """How likely does the policy find good responses?"""

    def __init__(self, responses: Sequence[Marked]) -> None:
        self._responses = responses

    def score(self, trainer: Any) -> Sequence[Scores]:
        """Score the responses."""
        return (score(trainer, self._responses),)

    def compare(self, before: Sequence[Scores], after: Sequence[Scores]) -> dict[str, float]:
        """Return the mean loss of a token in nats, and the share of tokens that were the likeliest."""
        metrics = {"validation_responses": float(len(self._responses))}
        for when, (scores,) in (("before", before), ("after", after)):
            tokens = scores.tokens.sum()
            metrics[f"validation_loss_{when}"] = (-scores.log_probs.sum() / tokens).item()
            metrics[f"validation_token_accuracy_{when}"] = (scores.correct.sum() / tokens).item()
        return metrics


class HeldOutEpisodes:
    """Does the policy find what went well likelier, and what went badly less likely?"""

    def __init__(self, episodes: Sequence[Episode]) -> None:
        self._marked = [Marked(episode.input_ids, episode.mask) for episode in episodes]
        self._recorded = torch.tensor([sum(episode.old_logps) for episode in episodes])
        self._advantages = torch.tensor([episode.advantage for episode in episodes])

    def score(self, trainer: Any) -> Sequence[Scores]:
        """Score the tokens that are marked."""
        return (score(trainer, self._marked),)

    def compare(self, before: Sequence[Scores], after: Sequence[Scores]) -> dict[str, float]:
        """Return the mean of advantage x gained log-probability, and the distance of the records.

        ``validation_logprob_gap`` is the mean difference per token between the recorded log-probabilities
        and the parent's, in nats: far from 0, other weights or another temperature made the episodes.
        """
        (first,), (last,) = before, after
        gained = last.log_probs - first.log_probs
        gap = (self._recorded - first.log_probs) / first.tokens
        return {
            "validation_rows": float(len(self._marked)),
            "validation_advantage_gain": (self._advantages * gained).mean().item(),
            "validation_logprob_gap": gap.abs().mean().item(),
        }


def _share(margins: torch.Tensor) -> float:
    return (margins > 0).float().mean().item()
