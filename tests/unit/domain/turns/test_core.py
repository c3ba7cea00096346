"""The life of turns against a naive model, with restarts from the compacted changelog at any moment."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import timedelta
from zlib import crc32

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tunestream.config.run.trajectory_builder import (
    ARTTrajectoryBuilderConfig,
    DPOTrajectoryBuilderConfig,
    TrajectoryBuilder,
)
from tunestream.domain.effects import Effects, Outbound, Refused, Spliced
from tunestream.domain.turns.core import PairBuilder, event_of
from tunestream.domain.turns.group_rules import GroupRules
from tunestream.domain.turns.memory import Closed, Memory, memory_name
from tunestream.events.groups import PreferenceGroup
from tunestream.events.keys import encode_key
from tunestream.events.runs import FORMAT
from tunestream.events.trajectories import EpisodeItem, EpisodeItemRole, TrajectoryGroup
from tunestream.events.ttc import CandidateStep, EpisodeStep, ExampleEnd, Tick, TurnEnd
from tunestream.events.turns import TurnMember, TurnStep

IDLE, MEMORY, MOST = 1050, 5000, 4
CONFIG = DPOTrajectoryBuilderConfig(
    turn_timeout=timedelta(milliseconds=IDLE),
    turn_memory=timedelta(milliseconds=MEMORY),
    max_candidates_per_turn=MOST,
)
Key = tuple[str, str, str]
Event = CandidateStep | TurnStep | TurnEnd | ExampleEnd | EpisodeStep | Tick
Closing = tuple[Key, str, int, tuple[str, ...]]


def candidate(
    run: str, example: str, turn: str, name: str, *, score: float = 0.0, expected: int | None = None
) -> CandidateStep:
    return CandidateStep(
        run_id=run,
        example_id=example,
        turn_id=turn,
        candidate_id=name,
        candidate_index=None,
        prompt="p",
        response=f"{name} {score}",
        score=score,
        expected_candidates=expected,
    )


def part(
    run: str, example: str, turn: str, members: list[tuple[str, float]], *, complete: bool = True
) -> TurnStep:
    return TurnStep(
        run_id=run,
        example_id=example,
        turn_id=turn,
        prompt="p",
        candidates=[
            TurnMember(candidate_id=name, response=f"{name} {score}", score=score) for name, score in members
        ],
        complete=complete,
    )


class Core:
    """A pair builder whose changelog is kept compacted beside it."""

    def __init__(self, config: TrajectoryBuilder = CONFIG, number: int = FORMAT) -> None:
        self.rules = GroupRules.of(config)
        self.number = number
        self.log: dict[bytes, bytes] = {}
        self.builder = self.fresh()

    def fresh(self) -> PairBuilder:
        return PairBuilder(lambda _run, _digest: self.rules, partition=3, number=lambda: self.number)

    def send(self, event: Event, time: int) -> tuple[str, Effects]:
        effects, outcome = Effects(), "ok"
        try:
            raw = event.to_json()
            self.builder.handle(event_of(event), time=time, config_digest="d", raw=raw, effects=effects)
        except Refused as refused:
            outcome = refused.code
        self.builder.settle(effects)
        for key, value in effects.changes.items():
            if value is None:
                self.log.pop(key, None)
            else:
                self.log[key] = value
        return outcome, effects

    def restart(self, seed: int = 0) -> None:
        records = list(self.log.items())
        random.Random(seed).shuffle(records)
        self.builder = self.fresh()
        for key, value in records:
            self.builder.restore(key, value)


@dataclass
class Turn:
    members: dict[str, object] = field(default_factory=dict)
    last: int = 0
    expected: int = 0
    parts: int = 0


class Model:
    """The documented rules, over plain dictionaries that are searched from end to end."""

    def __init__(self) -> None:
        self.now = -1
        self.open: dict[Key, Turn] = {}
        self.closed: dict[Key, tuple[int, dict[str, object]]] = {}

    def advance(self, time: int) -> list[Closing]:
        closings = []
        if time <= self.now:
            return []
        due = [(turn.last + IDLE, key) for key, turn in self.open.items()]
        for deadline, key in sorted(due):
            if deadline <= time:
                closings.append(self.close(key, "timeout", deadline))
        self.now = time
        self.closed = {key: value for key, value in self.closed.items() if value[0] + MEMORY > time}
        return closings

    def close(self, key: Key, reason: str, at: int) -> Closing:
        members = self.open.pop(key).members
        self.closed[key] = (at, members)
        return key, reason, at, tuple(members)

    def part(self, event: CandidateStep | TurnStep) -> tuple[str, list[Closing]]:
        """Take the candidates one by one; the first fault is the outcome."""
        key, outcomes = (event.run_id, event.example_id, event.turn_id), []
        ends = isinstance(event, TurnStep) and event.complete
        turn = self.open.get(key) or Turn()
        was = len(turn.members)
        for one in event.candidates if isinstance(event, TurnStep) else [event]:
            content = (one.response, one.score, one.candidate_index)
            known = self.closed[key][1] if key in self.closed else turn.members
            if one.candidate_id in known:
                outcomes.append("ok" if known[one.candidate_id] == content else "contradiction")
            elif key in self.closed:
                outcomes.append("late")
            elif len(turn.members) >= MOST:
                outcomes.append("turn_full")
            else:
                outcomes.append("ok")
                turn.members[one.candidate_id] = content
        outcome = next((one for one in outcomes if one != "ok"), "ok")
        if key in self.closed:
            return outcome, []
        if len(turn.members) > was:
            self.open[key] = turn
            turn.last, turn.parts = self.now, turn.parts + 1
            turn.expected = max(turn.expected, event.expected_candidates or 0)
        if ends or (turn.expected and len(turn.members) >= turn.expected):
            return outcome, [self.close(key, "complete", self.now)]
        return outcome, []

    def end(self, run: str, example: str, turn: str | None) -> list[Closing]:
        keys = [key for key in self.open if key[:2] == (run, example) and turn in (None, key[2])]
        reason = "example_end" if turn is None else "turn_end"
        return [self.close(key, reason, self.now) for key in sorted(keys)]


def group_of(output: Outbound) -> PreferenceGroup | TrajectoryGroup:
    if isinstance(output.body, TrajectoryGroup):
        return output.body
    assert isinstance(output.body, Spliced)
    return PreferenceGroup.model_validate_json(output.body.value)


def closings(effects: Effects) -> list[Closing]:
    groups = [(one.time, group_of(one)) for one in effects.outbound if not isinstance(one.body, Tick)]
    return [
        (
            (group.run_id, group.example_id, group.turn_id),
            group.closed_by,
            time,
            tuple(member.id for member in group.scores),
        )
        for time, group in groups
    ]


RUNS, NAMES = st.sampled_from(["r", "s/"]), st.sampled_from(["a", "b"])
STEPS = st.sampled_from([-6000, -100, 0, 1, 400, 1049, 1050, 3000, 5000, 7000])


def ticks(effects: Effects) -> list[int]:
    found = [output for output in effects.outbound if isinstance(output.body, Tick)]
    assert all((one.topic, one.partition, one.body) == ("trajectories", 3, Tick(run_id="*")) for one in found)
    return [one.time for one in found]


class TurnLife(RuleBasedStateMachine):
    """Everything that may happen to the turns of two runs on one partition, in any order."""

    @initialize()
    def start(self) -> None:
        self.core, self.model = Core(), Model()

    def at(self, step: int) -> int:
        return max(0, self.model.now + step) if self.model.now >= 0 else 100_000

    def check(self, event: Event, time: int, outcome: str, closed: list[Closing], before: int) -> None:
        got, effects = self.core.send(event, time)
        assert (got, closings(effects)) == (outcome, closed)
        assert ticks(effects) == ([time] if time // 1000 > before // 1000 else [])

    @rule(
        run=RUNS,
        example=NAMES,
        turn=st.sampled_from(["t", "u", "/"]),
        name=st.sampled_from("12345"),
        score=st.sampled_from([0.0, 0.0, 0.0, 1.0]),
        expected=st.sampled_from([None, None, 2, 3]),
        step=STEPS,
    )
    def candidate(
        self, run: str, example: str, turn: str, name: str, score: float, expected: int | None, step: int
    ) -> None:
        event, time = candidate(run, example, turn, name, score=score, expected=expected), self.at(step)
        before, closed = self.model.now, self.model.advance(time)
        outcome, more = self.model.part(event)
        self.check(event, time, outcome, closed + more, before)

    @rule(
        run=RUNS,
        example=NAMES,
        turn=st.sampled_from(["t", "u", "/"]),
        members=st.lists(
            st.tuples(st.sampled_from("12345"), st.sampled_from([0.0, 0.0, 1.0])), min_size=1, max_size=6
        ),
        complete=st.booleans(),
        step=STEPS,
    )
    def part(
        self,
        run: str,
        example: str,
        turn: str,
        members: list[tuple[str, float]],
        complete: bool,
        step: int,
    ) -> None:
        event, time = part(run, example, turn, members, complete=complete), self.at(step)
        before, closed = self.model.now, self.model.advance(time)
        outcome, more = self.model.part(event)
        self.check(event, time, outcome, closed + more, before)

    @rule(run=RUNS, example=NAMES, turn=st.sampled_from([None, "t", "u", "/"]), step=STEPS)
    def end(self, run: str, example: str, turn: str | None, step: int) -> None:
        time, before = self.at(step), self.model.now
        wanted = self.model.advance(time) + self.model.end(run, example, turn)
        event: Event = ExampleEnd(run_id=run, example_id=example)
        if turn is not None:
            event = TurnEnd(run_id=run, example_id=example, turn_id=turn)
        self.check(event, time, "ok", wanted, before)

    @rule(run=st.sampled_from(["r", "*"]), step=STEPS)
    def tick(self, run: str, step: int) -> None:
        time, before = self.at(step), self.model.now
        self.check(Tick(run_id=run), time, "ok", self.model.advance(time), before)

    @rule(seed=st.integers(0, 9))
    def restart(self, seed: int) -> None:
        self.core.restart(seed)

    @invariant()
    def open_turns_are_the_models(self) -> None:
        assert self.core.builder.open_turns == len(self.model.open)

    @invariant()
    def the_state_holds_no_more_than_it_must(self) -> None:
        parts = sum(turn.parts for turn in self.model.open.values())
        assert len(self.core.log) == parts + len(self.model.closed) + (self.model.now >= 0)


TestTurnLife = TurnLife.TestCase
TestTurnLife.settings = settings(max_examples=150, stateful_step_count=40)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_turn_that_room_was_made_for_is_late_not_new(restarted: bool) -> None:
    core = Core(CONFIG.model_copy(update={"max_turns_remembered": 2}))
    for number in range(3):
        core.send(candidate("r", "e", f"t{number}", "1", expected=1), 1000 + number)
    if restarted:
        core.restart()
    assert core.send(candidate("r", "e", "t0", "1", expected=1), 1003)[0] == "late"
    outcome, effects = core.send(candidate("r", "e", "t1", "1", expected=1), 1003)
    assert (outcome, effects.counts["duplicate"]) == ("ok", 1)
    core.send(Tick(run_id="*"), 1000 + MEMORY)
    outcome, effects = core.send(candidate("r", "e", "t0", "1", expected=1), 1001 + MEMORY)
    assert [members for *_, members in closings(effects)] == [("1",)], "its memory has passed"


@pytest.mark.parametrize("restarted", [False, True])
def test_an_episode_that_room_was_made_for_counts_once(restarted: bool) -> None:
    core = Core(ARTTrajectoryBuilderConfig(num_generations=1, max_groups_remembered=1))
    for number in range(3):
        core.send(episode(str(number)), 1000 + number)
    if restarted:
        core.restart()
    outcome, effects = core.send(episode("0"), 1003)
    assert (outcome, closings(effects), effects.counts["duplicate"]) == ("ok", [], 1)


def test_no_clock_makes_a_new_turn_late() -> None:
    """However old a record's time is: only a turn that is remembered as closed is late."""
    core = Core()
    core.send(candidate("r", "e", "now", "1"), 10_000_000)
    assert core.send(candidate("r", "e", "old", "1"), 10_000_000 - 100 * MEMORY)[0] == "ok"
    _, effects = core.send(Tick(run_id="*"), 10_000_000 + IDLE - 1)
    assert closings(effects) == [], "its time-out began when it came"


def test_a_run_that_waits_for_nothing_leaves_nothing() -> None:
    core = Core()
    core.send(candidate("r", "e", "t", "1", expected=1), 1000)
    core.send(Tick(run_id="*"), 1000 + MEMORY)
    assert core.log.keys() == {b"run/*"}
    assert core.builder._state._runs == {}


OLD = 1_800_000_000_000


def state_of_an_earlier_release(behind: int) -> dict[bytes, bytes]:
    """An open turn and a closed one of a run whose agents' clocks were behind, and the run's clock."""
    step = candidate("r", "e", "open", "1")
    closed = Closed(0, OLD - behind, OLD - behind + MEMORY, pack({"1": crc32(b"body")}))
    return {
        encode_key("c", "r", "e", "=open", "d") + b"/0/%d" % (OLD - behind): step.to_json(),
        encode_key("closed", "r") + b"/" + memory_name("c", "e", "closed").hex().encode(): closed.to_bytes(),
        b"run/r": b"%d -1" % (OLD - behind),
    }


def pack(members: dict[str, int]) -> bytes:
    return Memory().add(b"n" * 12, 0, 0, members, of_content=False)[24:]


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("behind", [-5_000, 0, 3_600_000])
def test_the_state_of_an_earlier_release_counts_from_the_first_record(behind: int, restarted: bool) -> None:
    core = Core()
    core.log = state_of_an_earlier_release(behind)
    core.restart()
    _, effects = core.send(Tick(run_id="*"), OLD)
    assert closings(effects) == [], "its idle timer begins again"
    assert b"run/r" not in core.log
    if restarted:
        core.restart()
    assert core.send(candidate("r", "e", "closed", "2"), OLD)[0] == "late", "it is still remembered"
    last = max(OLD, OLD - behind) + IDLE
    assert closings(core.send(Tick(run_id="*"), last - 1)[1]) == []
    assert closings(core.send(Tick(run_id="*"), last)[1]) == [(("r", "e", "open"), "timeout", last, ("1",))]
    assert closings(core.send(candidate("r", "e", "closed", "2", expected=1), last + MEMORY)[1]) != []


def test_a_record_that_moves_no_clock_resets_the_state_of_an_earlier_release_all_the_same() -> None:
    core = Core()
    core.log = state_of_an_earlier_release(0) | {b"run/*": b"%d %d" % (OLD + 9_000, OLD - 50_000)}
    core.restart()
    core.send(Tick(run_id="*"), OLD)
    core.restart()
    assert closings(core.send(Tick(run_id="*"), OLD + 9_000 + IDLE - 1)[1]) == []
    assert len(closings(core.send(Tick(run_id="*"), OLD + 9_000 + IDLE)[1])) == 1


def test_a_turn_keeps_the_digest_it_opened_with() -> None:
    core = Core()
    effects = Effects()
    for name, config_digest in (("1", "old"), ("2", "new")):
        event = candidate("r", "e", "t", name, expected=2)
        raw = event.to_json()
        core.builder.handle(event_of(event), time=1, config_digest=config_digest, raw=raw, effects=effects)
    assert group_of(effects.outbound[-1]).config_digest == "old"
    assert effects.outbound[-1].extensions == {"tsdigest": "old", "tspartition": "3"}


def test_an_unknown_configuration_changes_nothing() -> None:
    def unknown(run: str, config_digest: str) -> GroupRules:
        raise KeyError(run, config_digest)

    builder, effects = PairBuilder(unknown), Effects()
    event = candidate("r", "e", "t", "1")
    with pytest.raises(KeyError):
        builder.handle(event_of(event), time=1, config_digest="d", raw=event.to_json(), effects=effects)
    assert (effects, builder.open_turns, builder.oldest_open) == (Effects(), 0, None)


def episode(name: str, reward: float = 1.0, logprobs: object = "lp") -> EpisodeStep:
    return EpisodeStep(
        run_id="r",
        example_id="e",
        episode_id=name,
        items=[
            EpisodeItem(role=EpisodeItemRole.USER, content="q"),
            EpisodeItem(role=EpisodeItemRole.TOOL, content="t"),
            EpisodeItem(role=EpisodeItemRole.ASSISTANT, content="a", logprobs=logprobs),
        ],
        reward=reward,
    )


@pytest.mark.parametrize("restarted", [False, True])
def test_episodes_group_by_example_and_later_ones_open_the_next_group(restarted: bool) -> None:
    core, groups = Core(ARTTrajectoryBuilderConfig(num_generations=2)), []
    for time, name in enumerate(["1", "1", "2", "1", "3", "2", "4"]):
        outcome, effects = core.send(episode(name), 1000 + time)
        assert outcome == "ok"
        groups += closings(effects)
        if restarted:
            core.restart(time)
    assert [members for *_, members in groups] == [("1", "2"), ("3", "4")]


def test_an_episode_keeps_tool_messages_and_is_skipped_without_logprobs() -> None:
    core = Core(ARTTrajectoryBuilderConfig(num_generations=2))
    core.send(episode("1"), 1)
    _, effects = core.send(episode("2", logprobs={}), 2)
    group = effects.outbound[-1].body
    assert isinstance(group, TrajectoryGroup)
    assert [item.role for item in group.trajectories[0].episode] == ["user", "tool", "assistant"]  # type: ignore[union-attr]
    assert (len(group.scores), group.skipped) == (2, {"no_logprobs": 1})


def test_a_run_takes_only_what_its_builder_collects() -> None:
    assert Core().send(episode("1"), 1)[0] == "wrong_builder"
    assert Core(ARTTrajectoryBuilderConfig()).send(candidate("r", "e", "t", "1"), 1)[0] == "wrong_builder"


@pytest.mark.parametrize("seed", range(6))
def test_a_deadline_survives_a_restart_in_any_order(seed: int) -> None:
    core = Core()
    for time, name in ((1000, "1"), (1500, "2"), (1900, "3")):
        core.send(candidate("r", "e", "t", name), time)
    core.restart(seed)
    assert core.builder.oldest_open == 1000
    _, effects = core.send(Tick(run_id="*"), 1900 + IDLE)
    assert closings(effects) == [(("r", "e", "t"), "timeout", 1900 + IDLE, ("1", "2", "3"))]


def test_the_next_deadline_is_by_each_run_s_own_time_out() -> None:
    slow, quick = timedelta(hours=2), timedelta(minutes=1)
    rules = {"slow": GroupRules.of(CONFIG.model_copy(update={"turn_timeout": slow}))}
    rules["quick"] = GroupRules.of(CONFIG.model_copy(update={"turn_timeout": quick}))
    builder = PairBuilder(lambda run, _digest: rules[run])

    def take(event: CandidateStep, time: int) -> int | None:
        raw = event.to_json()
        builder.handle(event_of(event), time=time, config_digest="d", raw=raw, effects=Effects())
        return builder.next_deadline

    assert builder.next_deadline is None
    assert take(candidate("slow", "e", "t", "1"), 1000) == 1000 + 7_200_000
    assert take(candidate("slow", "e", "t", "2"), 2000) == 2000 + 7_200_000
    assert take(candidate("quick", "e", "t", "1"), 3000) == 3000 + 60_000
    assert take(candidate("slow", "e", "t", "3"), 90_000) == 90_000 + 7_200_000


@pytest.mark.parametrize("seed", range(6))
def test_room_is_made_in_the_order_of_closing_after_a_restart_in_any_order(seed: int) -> None:
    core = Core(CONFIG.model_copy(update={"max_turns_remembered": 3}))
    for number in range(3):
        core.send(candidate("r", "e", f"t{number}", "1", expected=1), 1000 + number)
    core.restart(seed)
    core.send(candidate("r", "e", "t3", "1", expected=1), 1003)
    outcomes = [core.send(candidate("r", "e", f"t{n}", "1", expected=1), 1003)[0] for n in range(4)]
    assert outcomes == ["late", "ok", "ok", "ok"]
