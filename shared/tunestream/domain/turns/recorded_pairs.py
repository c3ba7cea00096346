"""Pairs of recorded events: as the stream makes them, or as the reference does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from tunestream.config.run.trajectory_builder import DPOTrajectoryBuilderConfig
from tunestream.domain.effects import Refused
from tunestream.domain.turns.group_rules import pair_rules
from tunestream.domain.turns.offline import OfflineBuilder, Summary
from tunestream.domain.turns.pair_rows import Preference
from tunestream.domain.turns.pairs import pair_up
from tunestream.domain.turns.recorded_lines import RecordedLines
from tunestream.domain.turns.recorded_members import Found, Member
from tunestream.domain.turns.recorded_parts import RUN, recorded_parts

__all__ = ["OnRefused", "pairs_as_reference", "pairs_as_stream"]

OnRefused = Callable[[int, Refused], None]


def pairs_as_stream(
    lines: Iterable[bytes],
    config: DPOTrajectoryBuilderConfig,
    summary: Summary,
    on_refused: OnRefused,
    window_pairs: int | None = None,
) -> Iterator[Preference]:
    """Make pairs as the pair builder does: markers, time-outs in stream time and repeats count.

    Pairs come in the order in which examples and their turns first appeared; they are given as soon as
    the ends of the examples before them are known. ``window_pairs`` is the most of a turn, where ``config``
    sets no number.
    """
    builder = OfflineBuilder(RUN, config, summary=summary, window_pairs=window_pairs)
    found = _read(lines, config, summary, on_refused, parity=False)
    for number, event, now in recorded_parts(found, builder):
        try:
            ready = builder.take(event, time=now)
        except Refused as refused:
            _count(summary, on_refused, number, refused)
            continue
        for turn in ready:
            yield from turn.preferences()
    for turn in builder.finish():
        yield from turn.preferences()


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
    for _, found in _read(lines, config, summary, on_refused, parity=True):
        examples.setdefault(found.example_id, []).extend(found.members)
    turns: dict[str, list[Member]] = {}
    for members in examples.values():
        summary.candidates += len(members)
        for member in members:
            turns.setdefault(f"{member.example_id}::{member.turn_id}", []).append(member)
    return turns


def _read(
    lines: Iterable[bytes],
    config: DPOTrajectoryBuilderConfig,
    summary: Summary,
    on_refused: OnRefused,
    *,
    parity: bool,
) -> Iterator[tuple[int, Found]]:
    """Read the lines that are not blank, with their numbers."""
    read = RecordedLines(config.ttc_step_name, summary.dropped, parity=parity)
    for number, raw in enumerate(lines, start=1):
        every = read(number, raw)
        summary.lines += bool(every)
        for found in every:
            summary.repeats += found.repeats
            for refused in found.refusals:
                _count(summary, on_refused, number, refused)
            yield number, found


def _count(summary: Summary, on_refused: OnRefused, number: int, refused: Refused) -> None:
    summary.refused[refused.code] += 1
    on_refused(number, refused)
