"""Automatic rollback: the run's owner watches what a promoted version's turns score."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import reduce
from typing import Final

from tunestream.config.run.evaluation import LiveConfig
from tunestream.domain.effects import Effects
from tunestream.domain.jobs.ledger import JobLedger
from tunestream.domain.models.live import combine, live_difference
from tunestream.events.live import LiveRecord, LiveScores, LiveTenure, ScoreSummary
from tunestream.events.models import CurrentModel

__all__ = ["observe"]

# Into which a tenure's turns are kept, so that the oldest can be forgotten.
_PARTS: Final = 10
# Versions that had too few turns to be judged, kept until they have.
_MOST_UNPROVEN: Final = 20
_WATCHED: Final = frozenset({"training", "promote"})


def observe(
    ledger: JobLedger, scores: LiveScores, config: LiveConfig | None, *, now: datetime, effects: Effects
) -> str | None:
    """Take the live scores of a run, and roll its current version back when they are too bad.

    The current version is compared with the latest one before it that had ``min_turns`` turns, and only
    when a promotion made it current: what a rollback made current is not rolled back by itself.

    Args:
        ledger: of the run's owner.
        scores: what the turns since the last ones scored.
        config: of the run; None when it does not watch.
        now: when.
        effects: what it causes is added to them.

    Returns:
        Why the version was rolled back, None when it was not.
    """
    pointer = ledger.pointer(scores.run_id)
    if config is None or pointer is None:
        return None
    before = _follow(ledger.live(scores.run_id), pointer)
    after = _forget(_add(before, scores, config), config)
    message = None
    if pointer.cause in _WATCHED and _turns(before.tenures[-1]) < config.max_turns:
        message = _objection(after, config)
    if message is not None:
        earlier = after.tenures[0].version
        moved = ledger.point(
            scores.run_id, earlier, cause="live_scores", message=message, now=now, effects=effects
        )
        effects.counts["rolled_back_automatically"] += 1
        after = _follow(after, moved)
    if after != ledger.live(scores.run_id):
        ledger.put_live(after, now=now, effects=effects)
    return message


def _follow(record: LiveRecord | None, pointer: CurrentModel) -> LiveRecord:
    """Make the pointer's version the last tenure: its former one after a rollback, else a new one."""
    if record is not None and record.generation == pointer.generation:
        return record
    tenures = [] if record is None else record.tenures
    names = [tenure.version for tenure in tenures]
    if pointer.version in names and pointer.cause not in _WATCHED:
        tenures = tenures[: names.index(pointer.version) + 1]
    else:
        others = [tenure for tenure in tenures if tenure.version != pointer.version]
        tenures = [*others, LiveTenure(version=pointer.version)]
    return LiveRecord(run_id=pointer.run_id, generation=pointer.generation, tenures=tenures)


def _add(record: LiveRecord, scores: LiveScores, config: LiveConfig) -> LiveRecord:
    tenures = [_extended(tenure, scores.versions.get(tenure.version), config) for tenure in record.tenures]
    return record.model_copy(update={"tenures": tenures})


def _extended(tenure: LiveTenure, summary: ScoreSummary | None, config: LiveConfig) -> LiveTenure:
    """Add turns to a tenure, and forget the oldest beyond ``max_turns``."""
    if summary is None:
        return tenure
    summaries = list(tenure.summaries)
    if summaries and summaries[-1].turns < config.max_turns // _PARTS:
        summaries[-1] = combine(summaries[-1], summary)
    else:
        summaries.append(summary)
    while sum(one.turns for one in summaries[1:]) >= config.max_turns:
        del summaries[0]
    return tenure.model_copy(update={"summaries": summaries})


def _forget(record: LiveRecord, config: LiveConfig) -> LiveRecord:
    """Keep the latest earlier version that had enough turns, and what came after it."""
    *earlier, current = record.tenures
    proven = [at for at, tenure in enumerate(earlier) if _turns(tenure) >= config.min_turns]
    first = earlier[proven[-1] : proven[-1] + 1] if proven else []
    others = [tenure for tenure in (earlier[proven[-1] + 1 :] if proven else earlier) if tenure.summaries]
    return record.model_copy(update={"tenures": [*first, *others[-_MOST_UNPROVEN:], current]})


def _objection(record: LiveRecord, config: LiveConfig) -> str | None:
    """Return why the last tenure is worse than the first; None when it is not, or too few turns show it."""
    first, *_, last = [record.tenures[0], *record.tenures]
    if first is last or min(_turns(first), _turns(last)) < config.min_turns:
        return None
    old, new = _total(first.summaries), _total(last.summaries)
    gain = live_difference(new, old)
    if gain.high >= -config.margin:
        return None
    return (
        f"its turns scored {new.mean:.4g} on average ({new.turns} turns), those of version {first.version} "
        f"{old.mean:.4g} ({old.turns} turns): a difference of {gain.mean:.4g}, between {gain.low:.4g} and "
        f"{gain.high:.4g}, is below the margin of {-config.margin:.4g}"
    )


def _turns(tenure: LiveTenure) -> int:
    return sum(summary.turns for summary in tenure.summaries)


def _total(summaries: Sequence[ScoreSummary]) -> ScoreSummary:
    return reduce(combine, summaries)
