"""DPOTrajectoryBuilder in a program: the reference's life cycle and results."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tunestream.config.run.trajectory_builder import DPOTrajectoryBuilderConfig
from tunestream.domain.collector.normaliser import normalise_native
from tunestream.domain.turns.offline import RunEvent
from tunestream.events.messages import OpenAIMessage
from tunestream.events.trajectories import DPOItem
from tunestream.events.ttc import TTCCandidate, TTCExampleEnd, TTCTurnEnd
from tunestream.sdk import DPOTrajectoryBuilder
from tunestream.sdk.trajectory_builder import EventSource


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def turn(example: str, *scores: float, turn_id: str = "t", prompt: Any = "p") -> list[RunEvent]:
    return [
        TTCCandidate(
            run_id="r",
            example_id=example,
            turn_id=turn_id,
            candidate_id=str(at),
            candidate_index=at,
            prompt=prompt,
            response=f"r{at}",
            score=score,
        )
        for at, score in enumerate(scores)
    ]


def builder(*events: RunEvent, **config: Any) -> DPOTrajectoryBuilder:
    return DPOTrajectoryBuilder(DPOTrajectoryBuilderConfig.model_validate(config), lambda _run: events)


async def rewards(made: DPOTrajectoryBuilder) -> list[list[float]]:
    await made.start_run("r")
    return [[one.reward for one in group] for group in (await made.finalize("r")).trajectories]


EVENTS = [*turn("a", 0.9, 0.7, 0.5), *turn("b", 1.0, 1.0), *turn("c", 0.0, 1.0)]


def generator(_run: str) -> Iterator[RunEvent]:
    yield from EVENTS


async def asynchronously(_run: str) -> AsyncIterator[RunEvent]:
    for event in EVENTS:
        yield event


async def validated(_run: str) -> AsyncIterator[RunEvent]:
    for event in EVENTS:
        assert isinstance(event, TTCCandidate)
        body = normalise_native(event)
        yield body  # type: ignore[misc]


@pytest.mark.parametrize("source", [lambda _run: EVENTS, generator, asynchronously, validated])
async def test_trajectories_are_grouped_by_example(source: EventSource) -> None:
    made = DPOTrajectoryBuilder(DPOTrajectoryBuilderConfig(), source)
    assert await rewards(made) == [[0.4, 0.20000000000000007, 0.19999999999999996], [1.0]]


async def test_a_trajectory_is_one_preference() -> None:
    prompt = [OpenAIMessage(role="user", content="Board state 1")]
    made = builder(*turn("ex", 0.5, 0.9, prompt=prompt))
    await made.start_run("r")
    collection = await made.finalize("r")
    ((trajectory,),) = collection.trajectories
    assert collection.run_id == "r"
    assert trajectory.episode == [DPOItem(prompt=prompt, chosen_response="r1", rejected_response="r0")]
    assert trajectory.metadata == {
        "dpo_type": "preference_pair",
        "score_diff": 0.4,
        "example_id": "ex",
        "turn_id": "t",
        "chosen_score": 0.9,
        "rejected_score": 0.5,
        "chosen_index": 1,
        "rejected_index": 0,
        "chosen_raw_metadata": {},
        "rejected_raw_metadata": {},
    }
    assert list(trajectory.metadata)[:2] == ["dpo_type", "score_diff"]


async def test_best_versus_worst_says_how_many_there_were() -> None:
    made = builder(
        *turn("ex", 0.9, 0.5, 0.7), exhaustive_pairs=False, min_score_diff=0.1, max_pairs_per_turn=1
    )
    await made.start_run("r")
    ((trajectory,),) = (await made.finalize("r")).trajectories
    metadata = trajectory.metadata
    assert metadata is not None
    assert (metadata["chosen_score"], metadata["rejected_score"], metadata["num_candidates"]) == (0.9, 0.5, 3)
    assert "chosen_raw_metadata" not in metadata


@pytest.mark.parametrize(
    ("scores", "config", "expected"),
    [
        ((0.9, 0.7, 0.5, 0.3), {"max_pairs_per_turn": 2}, 2),
        ((0.6, 0.5, 0.2), {"min_score_diff": 0.29}, 2),
        ((0.5,), {}, 0),
        ((0.5,), {"require_multiple_candidates": False}, 0),
        ((0.5, 0.5), {}, 0),
        ((0.5, 0.5), {"nat_parity": True}, 1),
    ],
)
async def test_the_configuration_counts(scores: Any, config: Any, expected: int) -> None:
    assert sum(map(len, await rewards(builder(*turn("ex", *scores), **config)))) == expected


async def test_a_reward_may_be_the_chosen_score() -> None:
    assert await rewards(builder(*turn("ex", 0.9, 0.5), reward_from_score_diff=False)) == [[0.9]]


async def test_turns_stay_in_the_order_in_which_they_appeared() -> None:
    """Not in the order of their names, and not in that of their ends."""
    events = [
        *turn("ex", 0.0, 0.5, turn_id="t10"),
        *turn("other", 0.0, 0.3),
        *turn("ex", 0.0, 0.25, turn_id="t2"),
        TTCTurnEnd(run_id="r", example_id="ex", turn_id="t2"),
    ]
    assert await rewards(builder(*events)) == [[0.5, 0.25], [0.3]]


async def test_an_end_closes_and_a_repeat_counts_once() -> None:
    events = [*turn("ex", 0.1, 0.2), *turn("ex", 0.1, 0.2), TTCExampleEnd(run_id="r", example_id="ex")]
    made = builder(*events, *turn("ex", 0.1, 0.2, 0.9))
    assert await rewards(made) == [[0.1]]
    assert made.metrics["repeats"] == 4
    assert made.metrics["refused"] == {"late": 1}


async def test_what_breaks_a_rule_is_left_out_and_told(caplog: pytest.LogCaptureFixture) -> None:
    made = builder(*turn("ex", 1e200, 0.5, 0.4, 0.3), max_candidates_per_turn=2)
    assert await rewards(made) == [[pytest.approx(0.1)]]
    assert made.metrics["refused"] == {"schema.score_range": 1, "turn_full": 1}
    assert "scale scores" in caplog.text
    assert "raise max_candidates_per_turn" in caplog.text


async def test_more_turns_than_are_remembered() -> None:
    turns = [event for at in range(20) for event in turn("ex", 0.0, 1.0, turn_id=str(at))]
    ends = [TTCTurnEnd(run_id="r", example_id="ex", turn_id=str(at)) for at in range(20)]
    events = [event for at in range(20) for event in (*turns[2 * at : 2 * at + 2], ends[at])]
    assert await rewards(builder(*events, max_turns_remembered=1)) == [[1.0] * 20]


async def test_events_of_another_run_are_an_error() -> None:
    made = builder(*turn("ex", 0.0, 1.0))
    await made.start_run("other")
    with pytest.raises(ValueError, match="an event of run 'r' came with those of 'other'"):
        await made.finalize("other")


async def test_a_run_is_started_once_and_finalized_once() -> None:
    made = builder()
    with pytest.raises(ValueError, match=r"^No evaluation run found for run_id: r$"):
        await made.finalize("r")
    await made.start_run("r")
    with pytest.raises(ValueError, match=r"^Run r is already in progress\.$"):
        await made.start_run("r")
    assert (await made.finalize("r")).trajectories == []
    with pytest.raises(ValueError, match="No evaluation run found"):
        await made.finalize("r")


async def test_a_source_that_fails_ends_the_run_with_its_error() -> None:
    def failing(_run: str) -> Iterator[RunEvent]:
        yield from turn("ex", 0.0)
        raise ConnectionError("gone")

    made = DPOTrajectoryBuilder(DPOTrajectoryBuilderConfig(), failing)
    await made.start_run("r")
    with pytest.raises(ConnectionError, match="gone"):
        await made.finalize("r")
    await made.start_run("r")


async def test_metrics_have_the_references_names() -> None:
    made = builder(*EVENTS, *turn("d", 0.3), *turn("e", 0.3, 0.2), min_score_diff=0.2)
    await rewards(made)
    assert made.metrics == {
        "run_id": "r",
        "total_examples": 2,
        "total_turns": 5,
        "total_candidates": 10,
        "total_pairs": 3,
        "total_trajectories": 3,
        "skipped_single_candidate": 1,
        "skipped_score_diff": 2,
        "skipped_tie": 1,
        "refused": {},
        "repeats": 0,
    }


def lines(folder: Path) -> list[Any]:
    (path,) = folder.iterdir()
    assert path.name == "dpo_trajectory_builder_a%2Fb.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_progress_is_appended_to_a_file_of_the_run(tmp_path: Path) -> None:
    made = DPOTrajectoryBuilder(
        DPOTrajectoryBuilderConfig(), lambda _run: [], progress_dir=tmp_path / "x" / "y"
    )
    await made.start_run("a/b", {"epoch": 3})
    made.log_progress("a/b", {"custom": 1})
    await made.finalize("a/b", {"note": "n"})
    first, second = lines(tmp_path / "x" / "y")
    assert (first["run_id"], first["custom"]) == ("a/b", 1)
    assert "total_pairs" not in first
    assert (second["epoch"], second["note"], second["total_pairs"]) == (3, "n", 0)
    assert second["config"] == {
        "ttc_step_name": "dpo_candidate_move",
        "exhaustive_pairs": True,
        "min_score_diff": 0.0,
        "max_pairs_per_turn": None,
    }
    assert datetime.fromisoformat(second["timestamp"]).tzinfo is not None


async def test_progress_has_a_default_folder_and_may_have_another(tmp_path: Path) -> None:
    made = builder()
    made.log_progress("a/b", {})
    made.log_progress("a/b", {"here": True}, output_dir=tmp_path / "other")
    assert len(lines(tmp_path / ".tunestream" / "dpo_trajectory_builder")) == 1
    assert lines(tmp_path / "other")[0]["here"] is True
