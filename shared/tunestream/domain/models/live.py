"""What agents' turns score under each policy version: collected in stream time, and compared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from math import sqrt
from statistics import fmean
from typing import Any, Final

from tunestream.config.run.durations import milliseconds
from tunestream.config.run.evaluation import LiveConfig
from tunestream.domain.effects import Effects, Outbound
from tunestream.domain.gate.bodies import Arrival
from tunestream.domain.models.evaluation import Interval
from tunestream.domain.models.live_examples import ExampleTurns, add_sums
from tunestream.events.base import Sparse
from tunestream.events.ids import stable_id
from tunestream.events.keys import encode_key
from tunestream.events.live import ExampleSums, LiveScores, ScoreSummary

__all__ = ["LiveCollector", "combine", "live_difference", "summarise"]

# Standard errors. The comparison is made again with each summary: with 1.96 some look at two equal versions
# would soon find a difference.
_ERRORS: Final = 3.0
# Agents that stamp every event with a version of its own must not fill the state.
_MOST_VERSIONS: Final = 64
# The square of a larger score may be no number that JSON can write.
_LARGEST: Final = 1e100


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
    one, other = first.by_example, second.by_example
    return ScoreSummary(
        turns=turns,
        mean=first.mean + apart * second.turns / turns,
        squares=first.squares + second.squares + apart**2 * first.turns * second.turns / turns,
        by_example=None if one is None or other is None else add_sums(one, other),
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


class _Pending(Sparse):
    """State record: the turns of a run since the last summary was published.

    ``let_go`` is there when examples are held apart: the sums of those that are not any more, by version.
    """

    due: int
    name: str
    digest: str
    versions: dict[str, ScoreSummary]
    let_go: dict[str, ExampleSums] | None = None


class LiveCollector:
    """Summarises the turns of the runs on one partition.

    State keys: ``live/run`` holds what was not published yet, ``live/run/example`` the turns of an example.
    """

    def __init__(self) -> None:
        self._pending: dict[str, _Pending] = {}
        self._examples: dict[str, ExampleTurns] = {}

    def restore(self, run_id: str, value: bytes, example_id: str | None = None) -> None:
        """Restore what was not published yet, of a run or of one of its examples."""
        if example_id is None:
            self._pending[run_id] = _Pending.of_service(value)
        else:
            self._examples.setdefault(run_id, ExampleTurns(run_id)).restore(example_id, value)

    def take(
        self,
        group: Arrival,
        config: LiveConfig,
        now: int,
        effects: Effects,
        *,
        by_example: bool = True,
    ) -> None:
        """Add a closed turn.

        Args:
            group: the turn.
            config: of the run's live scores.
            now: stream time, ms.
            effects: receives the state's changes.
            by_example: whether a summary that begins here counts by example.
        """
        if not any(group.versions):
            return
        if max(map(abs, group.scores)) > _LARGEST:
            effects.counts["dropped_live_scores"] += 1
            return
        before, found = self._pending.get(group.run_id), summarise(group)
        if before is None:
            before = _Pending(
                due=now + milliseconds(config.every),
                name=group.group_id,
                digest=group.config_digest,
                versions={},
                let_go={} if by_example else None,
            )
        versions = dict(before.versions)
        for name, summary in found.items():
            if name in versions:
                versions[name] = combine(versions[name], summary)
            elif len(versions) < _MOST_VERSIONS:
                versions[name] = summary
            else:
                effects.counts["dropped_live_scores"] += 1
        update: dict[str, Any] = {"versions": versions, "digest": group.config_digest}
        if before.let_go is not None:
            means = {name: summary.mean for name, summary in found.items() if name in versions}
            examples = self._examples.setdefault(group.run_id, ExampleTurns(group.run_id))
            let_go = examples.add(group.example_id, means, effects)
            update["let_go"] = _merged(before.let_go, let_go.items())
        after = before.model_copy(update=update)
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
        examples = self._examples.pop(run_id, ExampleTurns(run_id))
        examples.clear(effects)
        versions = pending.versions
        if pending.let_go is not None:
            sums = _merged(pending.let_go, examples.sums())
            versions = {
                name: summary.model_copy(update={"by_example": sums[name]})
                for name, summary in versions.items()
            }
        effects.outbound.append(
            Outbound(
                topic="training.batches",
                body=LiveScores(run_id=run_id, config_digest=pending.digest, versions=versions),
                id=stable_id("live", run_id, pending.name),
                time=at,
                key=(run_id,),
                extensions={"tsdigest": pending.digest},
            )
        )


def _merged(
    sums: Mapping[str, ExampleSums], more: Iterable[tuple[str, ExampleSums]]
) -> dict[str, ExampleSums]:
    merged = dict(sums)
    for version, found in more:
        merged[version] = add_sums(merged[version], found) if version in merged else found
    return merged
