"""Pairs of recorded NAT events: as the stream makes them, or as the reference does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Final

from tunestream.config.run.trajectory_builder import DPOTrajectoryBuilderConfig
from tunestream.domain.collector.nat_steps import (
    PromptReader,
    candidate_of_data,
    read_fields,
)
from tunestream.domain.effects import Refused
from tunestream.domain.turns.group_rules import pair_rules
from tunestream.domain.turns.offline import OfflineBuilder, Summary
from tunestream.domain.turns.pair_rows import Preference, preferences_of
from tunestream.domain.turns.pairs import pair_up
from tunestream.domain.turns.recorded_members import Member, PlainSteps, member_of
from tunestream.domain.turns.recorded_steps import RecordedStep, read_step
from tunestream.events.trajectories import TrajectoryGroup
from tunestream.events.ttc import CandidateStep, ExampleEnd

__all__ = ["OnRefused", "pairs_as_reference", "pairs_as_stream"]

OnRefused = Callable[[int, Refused], None]

_RUN: Final = "offline"


def pairs_as_stream(
    lines: Iterable[bytes], config: DPOTrajectoryBuilderConfig, summary: Summary, on_refused: OnRefused
) -> Iterator[Preference]:
    """Make pairs as the pair builder does: markers, time-outs in stream time and repeats count.

    Pairs come in the order in which examples and their turns first appeared; they are given as soon as
    the ends of the examples before them are known.
    """
    builder = OfflineBuilder(_RUN, config, summary=summary)
    now, read_input = 0, PromptReader(summary.dropped)
    for number, raw in enumerate(lines, start=1):
        if (step := read_step(number, raw)) is None:
            continue
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
            yield from preferences_of(group)
    for group in builder.finish():
        yield from preferences_of(group)


def pairs_as_reference(
    lines: Iterable[bytes], config: DPOTrajectoryBuilderConfig, summary: Summary, on_refused: OnRefused
) -> Iterator[Preference]:
    """Make pairs exactly as the NeMo Agent Toolkit's builder does with the whole recording at once.

    Markers, times and repeats mean nothing; only scores that are not finite are refused beyond what it
    refuses itself.
    """
    rules = replace(pair_rules(config), filtered=False)
    by_example: dict[str, list[Preference]] = {}
    for turn in _reference_turns(lines, config, summary, on_refused).values():
        responses = [member.response for member in turn]
        pairs = pair_up([member.score for member in turn], responses, responses, rules)
        summary.turns += 1
        summary.pairs += len(pairs.kept)
        summary.skipped.update(pairs.skipped)
        for at, other, diff in pairs.kept:
            chosen = turn[at]
            reward = diff if config.reward_from_score_diff else chosen.score
            by_example.setdefault(chosen.example_id, []).append(Preference(chosen, turn[other], diff, reward))
    for preferences in by_example.values():
        yield from preferences


def _reference_turns(
    lines: Iterable[bytes], config: DPOTrajectoryBuilderConfig, summary: Summary, on_refused: OnRefused
) -> dict[str, list[Member]]:
    """Collect turns under the reference's keys, which merge when ids hold "::"."""
    examples: dict[str, list[Member]] = {}
    plain, read_input = PlainSteps(config.ttc_step_name, 0), PromptReader(summary.dropped)
    for number, raw in enumerate(lines, start=1):
        if (found := plain(raw)) is not None:
            example_id, member = found.example_id, found.member
        elif (step := read_step(number, raw)) is None:
            continue
        else:
            example_id, member = step.example_id, None
            try:
                member = _reference_member(step, config, read_input)
            except Refused as refused:
                summary.refused[refused.code] += 1
                on_refused(number, refused)
        summary.lines += 1
        members = examples.setdefault(example_id, [])
        if member is not None:
            members.append(member)
    turns: dict[str, list[Member]] = {}
    for members in examples.values():
        summary.candidates += len(members)
        for member in members:
            turns.setdefault(f"{member.example_id}::{member.turn_id}", []).append(member)
    return turns


def _reference_member(
    step: RecordedStep, config: DPOTrajectoryBuilderConfig, read_input: PromptReader
) -> Member | None:
    """Read a candidate in the words of the reference."""
    if not _is_candidate(step, config):
        return None
    return member_of(
        read_fields(step.example_id, _data(step), _metadata(step), parity=True, read_input=read_input)
    )


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
