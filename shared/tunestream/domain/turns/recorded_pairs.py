"""Pairs of recorded events: as the stream makes them, or as the reference does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Final

from tunestream.config.run.trajectory_builder import DPOTrajectoryBuilderConfig
from tunestream.domain.effects import Refused
from tunestream.domain.turns.group_rules import pair_rules
from tunestream.domain.turns.offline import OfflineBuilder, Summary
from tunestream.domain.turns.pair_rows import Preference
from tunestream.domain.turns.pairs import pair_up
from tunestream.domain.turns.recorded_lines import RecordedLines
from tunestream.domain.turns.recorded_members import Found, Member
from tunestream.domain.turns.recorded_steps import milliseconds
from tunestream.events.trajectories import DPOItem, TrajectoryGroup
from tunestream.events.ttc import CandidateStep, ExampleEnd, TurnEnd

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
    now = 0
    for number, found in _read(lines, config, summary, on_refused, parity=False):
        if found.members or found.ends_turn or found.ends_example:
            now = max(now, milliseconds(number, found.seconds) or now)
        for member in found.members:
            try:
                builder.take(
                    _opaque(member),
                    time=now,
                    raw=b"%b%d" % (member.response, hash((member.score, member.index))),
                )
            except Refused as refused:
                _count(summary, on_refused, number, refused)
        if found.ends_turn is not None:
            builder.take(TurnEnd(run_id=_RUN, example_id=found.example_id, turn_id=found.ends_turn), time=now)
        if found.ends_example:
            for group in builder.take(ExampleEnd(run_id=_RUN, example_id=found.example_id), time=now):
                yield from _preferences(group)
    for group in builder.finish():
        yield from _preferences(group)


def _opaque(member: Member) -> CandidateStep:
    """Return a candidate whose texts are JSON: pairing only compares them."""
    context = b"\n".join((member.prompt, member.tools, member.prompt_token_ids))
    return CandidateStep.of_valid(
        run_id=_RUN,
        example_id=member.example_id,
        turn_id=member.turn_id,
        candidate_id=member.candidate_id,
        candidate_index=member.index,
        prompt=context.decode(),
        response=b"\n".join((member.response, member.token_ids)).decode(),
        score=member.score,
        expected_candidates=member.expected,
        policy_version=None,
        raw_metadata={},
    )


def _preferences(group: TrajectoryGroup) -> Iterator[Preference]:
    for trajectory in group.trajectories:
        item, metadata = trajectory.episode[0], trajectory.metadata or {}
        assert isinstance(item, DPOItem)
        assert isinstance(item.prompt, str)
        prompt, tools, prompt_token_ids = item.prompt.encode().split(b"\n")
        chosen, rejected = (
            Member(
                group.example_id,
                group.turn_id,
                "",
                metadata[f"{which}_index"],
                prompt,
                response,
                metadata[f"{which}_score"],
                tools,
                prompt_token_ids,
                token_ids,
            )
            for which, (response, token_ids) in (
                ("chosen", item.chosen_response.encode().split(b"\n")),
                ("rejected", item.rejected_response.encode().split(b"\n")),
            )
        )
        yield Preference(chosen, rejected, metadata["score_diff"], trajectory.reward)


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
        found = read(number, raw)
        if found is not None:
            summary.lines += 1
            for refused in found.refusals:
                _count(summary, on_refused, number, refused)
            yield number, found


def _count(summary: Summary, on_refused: OnRefused, number: int, refused: Refused) -> None:
    summary.refused[refused.code] += 1
    on_refused(number, refused)
