"""Pairs of recorded events without a broker: as the stream makes them, or as the reference does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tunestream.config.run.trajectory_builder import DPOTrajectoryBuilderConfig
from tunestream.domain.collector.normaliser import (
    CandidateFields,
    PromptReader,
    candidate_of_data,
    extract_prompt,
    read_fields,
)
from tunestream.domain.effects import Effects, Refused
from tunestream.domain.turns.core import PairBuilder
from tunestream.domain.turns.in_order import InOrder
from tunestream.domain.turns.nat_recording import RecordedStep, read_steps
from tunestream.domain.turns.pairs import make_pairs
from tunestream.domain.turns.preferences import preference_trajectory
from tunestream.domain.turns.turn_rules import pair_rules
from tunestream.events.trajectories import Prompt, Trajectory, TrajectoryGroup
from tunestream.events.ttc import CandidateStep, ExampleEnd, Tick

__all__ = ["OnRefused", "Summary", "as_the_reference", "as_the_stream"]

OnRefused = Callable[[int, Refused], None]

_RUN: Final = "offline"
_END_OF_TIME: Final = 1 << 61


@dataclass(slots=True)
class Summary:
    """What became of a recording.

    Attributes:
        lines: steps read.
        candidates: that counted.
        turns: that had a candidate.
        pairs: that were made.
        repeats: candidates that came again.
        skipped: pairs that were not made (and lone candidates), by reason.
        refused: candidates that did not count, by reason.
    """

    lines: int = 0
    candidates: int = 0
    turns: int = 0
    pairs: int = 0
    repeats: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return values | {"skipped": dict(self.skipped), "refused": dict(self.refused)}


def as_the_stream(
    lines: Iterable[bytes], config: DPOTrajectoryBuilderConfig, summary: Summary, on_refused: OnRefused
) -> Iterator[Trajectory]:
    """Make pairs as the pair builder does: markers, time-outs in stream time and repeats count.

    Pairs come in the order in which examples and their turns first appeared; they are given as soon as
    the ends of the examples before them are known.
    """
    builder = PairBuilder(lambda _run, _digest: config)
    ordered: InOrder[Trajectory] = InOrder()
    effects, now, read_prompt = Effects(), 0, _PromptReader()
    for step in read_steps(lines):
        summary.lines += 1
        event = None
        try:
            event = _event(step, config, ordered, read_prompt)
            if event is not None:
                now = max(now, step.time or now)
                builder.handle(event, time=now, digest=_RUN, raw=step.raw, effects=effects)
        except Refused as refused:
            summary.refused[refused.code] += 1
            on_refused(step.line, refused)
        if effects.emissions or effects.counts:
            _settle(effects, ordered, summary)
        effects.changes.clear()
        if isinstance(event, ExampleEnd):
            yield from ordered.end(step.example_id)
    builder.handle(Tick(run_id=_RUN), time=_END_OF_TIME, digest=_RUN, raw=b"", effects=effects)
    _settle(effects, ordered, summary)
    yield from ordered.rest()


def as_the_reference(
    lines: Iterable[bytes], config: DPOTrajectoryBuilderConfig, summary: Summary, on_refused: OnRefused
) -> Iterator[Trajectory]:
    """Make pairs exactly as the NeMo Agent Toolkit's builder does with the whole recording at once.

    Markers, times and repeats mean nothing; only scores that are not finite are refused beyond what it
    refuses itself.
    """
    rules = replace(pair_rules(config), filtered=False)
    by_example: dict[str, list[Trajectory]] = {}
    for turn in _reference_turns(lines, config, summary, on_refused).values():
        pairs = make_pairs(turn, rules)
        summary.turns += 1
        summary.pairs += len(pairs.kept)
        summary.skipped.update(pairs.skipped)
        for pair in pairs.kept:
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
) -> dict[str, list[CandidateFields]]:
    """Collect turns under the reference's keys, which merge when ids hold "::"."""
    examples: dict[str, list[CandidateFields]] = {}
    read_prompt = _PromptReader()
    for step in read_steps(lines):
        summary.lines += 1
        candidates = examples.setdefault(step.example_id, [])
        if not _is_candidate(step, config):
            continue
        try:
            candidates.append(
                read_fields(
                    step.example_id, _data(step), _metadata(step), parity=True, read_prompt=read_prompt
                )
            )
        except Refused as refused:
            summary.refused[refused.code] += 1
            on_refused(step.line, refused)
    turns: dict[str, list[CandidateFields]] = {}
    for candidates in examples.values():
        summary.candidates += len(candidates)
        for candidate in candidates:
            turns.setdefault(f"{candidate.example_id}::{candidate.turn_id}", []).append(candidate)
    return turns


class _PromptReader:
    """Reads inputs; the candidates of a turn share theirs, which is read once."""

    def __init__(self) -> None:
        self._input: object = None
        self._prompt: Prompt = ""

    def __call__(self, value: object, *, parity: bool = False) -> Prompt:
        if value != self._input:
            self._input, self._prompt = value, extract_prompt(value, parity=parity)
        return self._prompt


def _event(
    step: RecordedStep,
    config: DPOTrajectoryBuilderConfig,
    ordered: InOrder[Trajectory],
    read_prompt: PromptReader,
) -> CandidateStep | ExampleEnd | None:
    """Make of a step what the collector makes of it."""
    if step.payload.event_type == "WORKFLOW_END":
        return ExampleEnd(run_id=_RUN, example_id=step.example_id)
    if not _is_candidate(step, config):
        return None
    candidate = candidate_of_data(
        _data(step),
        run_id=_RUN,
        example_id=step.example_id,
        source_id=step.payload.UUID,
        metadata=_metadata(step),
        read_prompt=read_prompt,
    )
    ordered.note(step.example_id, candidate.turn_id)
    return candidate


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


def _settle(effects: Effects, ordered: InOrder[Trajectory], summary: Summary) -> None:
    """Take over what the pair builder did."""
    for emission in effects.emissions:
        group = emission.body
        if isinstance(group, TrajectoryGroup):
            summary.turns += 1
            summary.candidates += len(group.scores)
            summary.pairs += len(group.trajectories)
            summary.skipped.update(group.skipped)
            ordered.add(group.example_id, group.turn_id, group.trajectories)
    summary.repeats += effects.counts["duplicate"]
    effects.emissions.clear()
    effects.counts.clear()
