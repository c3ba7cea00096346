"""What agents' turns score under each policy version: collected in stream time, and compared."""

from __future__ import annotations

from collections import defaultdict
from math import sqrt
from statistics import fmean
from typing import Final

from tunestream.config.run.durations import milliseconds
from tunestream.config.run.evaluation import LiveConfig
from tunestream.domain.effects import Effects, Outbound
from tunestream.domain.gate.bodies import Arrival
from tunestream.domain.models.evaluation import Interval
from tunestream.events.base import Wire
from tunestream.events.ids import stable_id
from tunestream.events.keys import encode_key
from tunestream.events.live import LiveScores, ScoreSummary

__all__ = ["LiveCollector", "combine", "live_difference", "summarise"]

# Standard errors. The comparison is made again with each summary: with 1.96 some look at two equal versions
# would soon find a difference.
_ERRORS: Final = 3.0
# Agents that stamp every event with a version of its own must not fill the state.
_MOST_VERSIONS: Final = 64


def summarise(group: Arrival) -> dict[str, ScoreSummary]:
    """Return what a turn scored by the versions that answered; scores without a version are left out."""
    scores: defaultdict[str, list[float]] = defaultdict(list)
    for score, version in zip(group.scores, group.versions, strict=True):
        if version:
            scores[version].append(score)
    return {name: ScoreSummary(turns=1, mean=fmean(found), squares=0.0) for name, found in scores.items()}


def combine(first: ScoreSummary, second: ScoreSummary) -> ScoreSummary:
    """Return the summary of the turns of both."""
    turns = first.turns + second.turns
    apart = second.mean - first.mean
    return ScoreSummary(
        turns=turns,
        mean=first.mean + apart * second.turns / turns,
        squares=first.squares + second.squares + apart**2 * first.turns * second.turns / turns,
    )


def live_difference(new: ScoreSummary, old: ScoreSummary) -> Interval:
    """Return how much more the new version's turns score, with Welch's interval of 3 standard errors.

    Turns count as independent draws, of a spread that may differ between the versions.

    Args:
        new: at least two turns.
        old: at least two turns.
    """
    error = sqrt(sum(one.squares / (one.turns - 1) / one.turns for one in (new, old)))
    mean = new.mean - old.mean
    return Interval(mean, mean - _ERRORS * error, mean + _ERRORS * error)


class _Pending(Wire):
    """State record: the turns of a run since the last summary was published."""

    due: int
    name: str
    digest: str
    versions: dict[str, ScoreSummary]


class LiveCollector:
    """Summarises the turns of the runs on one partition.

    State keys: ``live/run`` holds what was not published yet.
    """

    def __init__(self) -> None:
        self._pending: dict[str, _Pending] = {}

    def restore(self, run_id: str, value: bytes) -> None:
        """Restore what was not published yet."""
        self._pending[run_id] = _Pending.of_service(value)

    def take(self, group: Arrival, config: LiveConfig | None, now: int, effects: Effects) -> None:
        """Add a closed turn at stream time ``now`` in ms, unless the run does not watch live scores."""
        found = {} if config is None else summarise(group)
        if config is None or not found:
            return
        before = self._pending.get(group.run_id)
        if before is None:
            due = now + milliseconds(config.every)
            before = _Pending(due=due, name=group.group_id, digest=group.config_digest, versions={})
        versions = dict(before.versions)
        for name, summary in found.items():
            if name in versions:
                versions[name] = combine(versions[name], summary)
            elif len(versions) < _MOST_VERSIONS:
                versions[name] = summary
            else:
                effects.counts["dropped_live_scores"] += 1
        after = before.model_copy(update={"versions": versions, "digest": group.config_digest})
        self._pending[group.run_id] = after
        effects.put(encode_key("live", group.run_id), after.to_json())

    def due(self, run_id: str) -> int | None:
        """Return the stream time at which a run's scores are due, ms; None when there are none."""
        pending = self._pending.get(run_id)
        return None if pending is None else pending.due

    def publish(self, run_id: str, at: int, effects: Effects) -> None:
        """Publish a run's scores at stream time ``at``, ms.

        Raises:
            KeyError: when there are none.
        """
        pending = self._pending.pop(run_id)
        effects.delete(encode_key("live", run_id))
        effects.outbound.append(
            Outbound(
                topic="training.batches",
                body=LiveScores(run_id=run_id, config_digest=pending.digest, versions=pending.versions),
                id=stable_id("live", run_id, pending.name),
                time=at,
                key=(run_id,),
                extensions={"tsdigest": pending.digest},
            )
        )
