"""The pair builder without a broker: order of appearance, bounded waiting, and what is counted."""

from __future__ import annotations

from typing import Any

import pytest

from tunestream.config.run.trajectory_builder import DPOTrajectoryBuilderConfig
from tunestream.domain.collector.normaliser import normalise_native
from tunestream.domain.effects import Refused
from tunestream.domain.turns.closed_turns import ClosedTurn
from tunestream.domain.turns.offline import OfflineBuilder, RunEvent
from tunestream.events.trajectories import CloseReason
from tunestream.events.ttc import TTCCandidate, TTCExampleEnd, TTCTurnEnd


def candidate(example: str, turn: str, name: str, score: float = 0.0, **more: Any) -> TTCCandidate:
    return TTCCandidate(
        run_id="r",
        example_id=example,
        turn_id=turn,
        candidate_id=name,
        prompt="p",
        response=name,
        score=score,
        **more,
    )


def end(example: str) -> TTCExampleEnd:
    return TTCExampleEnd(run_id="r", example_id=example)


def offline(*, timeless: bool = True, **config: Any) -> OfflineBuilder:
    return OfflineBuilder("r", DPOTrajectoryBuilderConfig.model_validate(config), timeless=timeless)


def places(turns: list[ClosedTurn]) -> list[tuple[str, str]]:
    return [(turn.example_id, turn.turn_id) for turn in turns]


def test_a_group_waits_for_the_examples_before_its_own_and_no_longer() -> None:
    builder = offline()
    for event in (candidate("a", "1", "x"), candidate("b", "1", "x"), candidate("a", "2", "x")):
        assert builder.take(event) == []
    assert builder.take(end("b")) == []
    assert places(builder.take(end("a"))) == [("a", "1"), ("a", "2"), ("b", "1")]
    assert builder.finish() == []


def test_turns_come_in_the_order_in_which_they_appeared_not_in_that_of_their_ends() -> None:
    builder = offline()
    for event in (candidate("a", "10", "x"), candidate("b", "1", "x"), candidate("a", "2", "x")):
        builder.take(event)
    builder.take(TTCTurnEnd(run_id="r", example_id="a", turn_id="2"))
    assert places(builder.finish()) == [("a", "10"), ("a", "2"), ("b", "1")]


def test_an_example_that_comes_again_is_given_again() -> None:
    builder = offline()
    builder.take(candidate("a", "1", "x"))
    assert places(builder.take(end("a"))) == [("a", "1")]
    builder.take(candidate("a", "2", "x"))
    assert places(builder.take(end("a"))) == [("a", "2")]


def test_a_published_event_and_a_validated_one_are_the_same() -> None:
    events = [candidate("a", "1", "x", 0.5), candidate("a", "1", "y", 1.0)]
    published, validated = offline(), offline()
    for event in events:
        published.take(event)
        body = normalise_native(event)
        assert not isinstance(body, TTCCandidate)
        validated.take(body)  # type: ignore[arg-type]
    (one,), (other,) = published.finish(), validated.finish()
    assert one.group == other.group
    assert one.trajectories == other.trajectories


@pytest.mark.parametrize("timeless", [True, False])
def test_a_time_out_counts_unless_time_means_nothing(timeless: bool) -> None:
    builder = offline(timeless=timeless, turn_timeout="1s")
    builder.take(candidate("a", "1", "x"), time=0)
    if timeless:
        builder.take(candidate("a", "1", "y"), time=3_600_000)
        assert [turn.candidates for turn in builder.finish()] == [2]
    else:
        with pytest.raises(Refused, match="late"):
            builder.take(candidate("a", "1", "y"), time=60_000)
        (turn,) = builder.finish()
        assert (turn.group.closed_by, turn.candidates) == (CloseReason.TIMEOUT, 1)


def test_what_was_due_is_closed_also_when_the_event_is_refused() -> None:
    builder = offline(timeless=False, turn_timeout="3s")
    builder.take(candidate("a", "1", "x"), time=0)
    builder.take(candidate("b", "1", "x"), time=5_000)
    with pytest.raises(Refused, match="contradiction"):
        builder.take(candidate("b", "1", "x", score=9.0), time=7_000)
    assert builder.summary.turns == 1


def test_the_summary_counts_what_became_of_the_events() -> None:
    builder = offline()
    events: list[RunEvent] = [candidate("a", "1", "x", 1.0), candidate("a", "1", "x", 1.0)]
    for event in (*events, candidate("a", "1", "y"), candidate("a", "2", "x")):
        builder.take(event)
    builder.finish()
    assert builder.summary.to_dict() == {
        "lines": 0,
        "candidates": 3,
        "turns": 2,
        "pairs": 1,
        "repeats": 1,
        "skipped": {"single_candidate": 1},
        "refused": {},
    }


def test_an_event_of_another_run_is_an_error() -> None:
    with pytest.raises(ValueError, match="an event of run 'r' came with those of 'other'"):
        OfflineBuilder("other", DPOTrajectoryBuilderConfig()).take(end("a"))
