"""Pairs of recorded NAT events: as the stream makes them, or as the reference does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Final

from tunestream.config.run.trajectory_builder import DPOTrajectoryBuilderConfig
from tunestream.domain.collector.nat_steps import (
    NATCandidate,
    PromptReader,
    candidate_of_data,
    read_fields,
)
from tunestream.domain.effects import Refused
from tunestream.domain.turns.group_rules import pair_rules
from tunestream.domain.turns.offline import OfflineBuilder, Summary
from tunestream.domain.turns.pairing import Pairing
from tunestream.domain.turns.pairs import pair_up
from tunestream.domain.turns.preferences import preference_trajectory
from tunestream.domain.turns.recorded_steps import RecordedStep, read_steps
from tunestream.events.trajectories import Trajectory, TrajectoryGroup
from tunestream.events.ttc import CandidateStep, ExampleEnd

__all__ = ["OnRefused", "pairs_as_reference", "pairs_as_stream"]

OnRefused = Callable[[int, Refused], None]

_RUN: Final = "offline"


def pairs_as_stream(
    lines: Iterable[bytes], config: DPOTrajectoryBuilderConfig, summary: Summary, on_refused: OnRefused
) -> Iterator[Trajectory]:
    """Make pairs as the pair builder does: markers, time-outs in stream time and repeats count.

    Pairs come in the order in which examples and their turns first appeared; they are given as soon as
    the ends of the examples before them are known.
    """
    builder = OfflineBuilder(_RUN, config, summary=summary)
    now, read_input = 0, PromptReader(summary.dropped)
    for step in read_steps(lines):
        summary.lines += 1
        ready: list[TrajectoryGroup] = []
        try:
            event = _event(step, config, read_input)
            if event is not None:
                now = max(now, step.time or now)
                ready = builder.take(event, time=now, raw=step.raw)
        except Refused as refused:
            summary.refused[refused.code] += 1
            on_refused(step.line, refused)
        for group in ready:
            yield from group.trajectories
    for group in builder.finish():
        yield from group.trajectories


def pairs_as_reference(
    lines: Iterable[bytes], config: DPOTrajectoryBuilderConfig, summary: Summary, on_refused: OnRefused
) -> Iterator[Trajectory]:
    """Make pairs exactly as the NeMo Agent Toolkit's builder does with the whole recording at once.

    Markers, times and repeats mean nothing; only scores that are not finite are refused beyond what it
    refuses itself.
    """
    rules = replace(pair_rules(config), filtered=False)
    by_example: dict[str, list[Trajectory]] = {}
    for turn in _reference_turns(lines, config, summary, on_refused).values():
        scores, responses = [each.score for each in turn], [each.response for each in turn]
        pairs = pair_up(scores, responses, responses, rules)  # in parity prompts do not count
        summary.turns += 1
        summary.pairs += len(pairs.kept)
        summary.skipped.update(pairs.skipped)
        for pair in (Pairing(turn[a], turn[b], diff) for a, b, diff in pairs.kept):
            by_example.setdefault(pair.chosen.example_id, []).append(
                preference_trajectory(
                    pair,
                    example_id=pair.chosen.example_id,
                    turn_id=pair.chosen.turn_id,
                    from_score_diff=config.reward_from_score_diff,
                    num_candidates=None if rules.exhaustive else len(turn),
                )
            )
    for trajectories in by_example.values():
        yield from trajectories


def _reference_turns(
    lines: Iterable[bytes], config: DPOTrajectoryBuilderConfig, summary: Summary, on_refused: OnRefused
) -> dict[str, list[NATCandidate]]:
    """Collect turns under the reference's keys, which merge when ids hold "::"."""
    examples: dict[str, list[NATCandidate]] = {}
    read_input = PromptReader(summary.dropped)
    for step in read_steps(lines):
        summary.lines += 1
        candidates = examples.setdefault(step.example_id, [])
        if not _is_candidate(step, config):
            continue
        try:
            candidates.append(
                read_fields(step.example_id, _data(step), _metadata(step), parity=True, read_input=read_input)
            )
        except Refused as refused:
            summary.refused[refused.code] += 1
            on_refused(step.line, refused)
    turns: dict[str, list[NATCandidate]] = {}
    for candidates in examples.values():
        summary.candidates += len(candidates)
        for candidate in candidates:
            turns.setdefault(f"{candidate.example_id}::{candidate.turn_id}", []).append(candidate)
    return turns


def _event(
    step: RecordedStep, config: DPOTrajectoryBuilderConfig, read_input: PromptReader
) -> CandidateStep | ExampleEnd | None:
    """Make of a step what the collector makes of it."""
    if step.payload.event_type == "WORKFLOW_END":
        return ExampleEnd(run_id=_RUN, example_id=step.example_id)
    if not _is_candidate(step, config):
        return None
    return candidate_of_data(
        _data(step),
        run_id=_RUN,
        example_id=step.example_id,
        source_id=step.payload.UUID,
        metadata=_metadata(step),
        read_input=read_input,
    )


def _is_candidate(step: RecordedStep, config: DPOTrajectoryBuilderConfig) -> bool:
    return step.payload.event_type == "TTC_END" and bool(step.payload.name == config.ttc_step_name)


def _data(step: RecordedStep) -> dict[str, Any]:
    data = step.payload.data
    if not isinstance(data, dict):
        raise Refused("schema.missing", "step.payload.data is missing; a candidate needs turn_id and score")
    return data


def _metadata(step: RecordedStep) -> dict[str, Any]:
    metadata = step.payload.metadata
    return metadata if isinstance(metadata, dict) else {}
