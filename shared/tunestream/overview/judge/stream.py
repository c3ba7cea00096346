"""The stream: topics, how far the services are behind, what they refused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tunestream.overview.facts import LagFacts
from tunestream.overview.findings import Finding
from tunestream.overview.judge.services import how_to_start
from tunestream.streams.broker.topic_plan import TopicAction, TopicChange
from tunestream.streams.letters.summary import ReasonCount

__all__ = ["judge_lag", "judge_letters", "judge_topics"]


def judge_topics(plan: Sequence[TopicChange]) -> list[Finding]:
    """Return how the broker's topics compare with the catalogue."""
    wrong = [_topic(change) for change in plan if change.action is not TopicAction.KEEP]
    return wrong or [Finding.ok("topics", f"all {len(plan)} are as in the catalogue")]


def _topic(change: TopicChange) -> Finding:
    name = f"topic {change.name}"
    if change.action is TopicAction.REFUSE:
        return Finding.fail(name, change.reason or "", change.remedy or "")
    text = "is missing" if change.action is TopicAction.CREATE else "has other settings"
    return Finding.fail(name, text, "tunestream topics apply")


def judge_lag(facts: LagFacts) -> Finding:
    """Return whether a service keeps up, or at least goes on."""
    found = facts.second
    name = f"{found.service} on {found.topic}"
    package = found.service.replace("-", "_")
    if found.lag and not found.members:
        text = f"{found.lag:,} records wait and nobody works"
        return Finding.fail(name, text, how_to_start(package))
    if facts.first.lag and found.lag and found.handled == facts.first.handled:
        text = f"{found.lag:,} records wait and none was handled within {facts.seconds:.0f} s"
        return Finding.fail(
            name, text, f"Read the reasons and the log of {package}; its /health/ready has them"
        )
    return Finding.ok(name, f"{found.lag:,} records behind, {found.members} at work")


def judge_letters(counts: Iterable[ReasonCount]) -> list[Finding]:
    """Return what was refused within the last hour and not sent again since."""
    found = [
        Finding.fail(
            f"dead letters of {one.source}",
            f"{one.count - one.replayed:,} refused within the last hour: {one.code}",
            f"tunestream dlq list --topic {one.source} --reason {one.code} --since 1h",
        )
        for one in counts
        if one.replayed < one.count
    ]
    return found or [Finding.ok("dead letters", "none within the last hour that was not sent again")]
