"""The life of turns against a naive model, with restarts from the compacted changelog at any moment."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tunestream.config.run.trajectory_builder import ARTTrajectoryBuilderConfig, DPOTrajectoryBuilderConfig
from tunestream.domain.effects import Effects, Refused
from tunestream.domain.turns.core import BuilderEvent, PairBuilder
from tunestream.events.trajectories import EpisodeItem, EpisodeItemRole, TrajectoryGroup
from tunestream.events.ttc import CandidateStep, EpisodeStep, ExampleEnd, Tick, TurnEnd

IDLE, GRACE, MEMORY, MOST = 1000, 50, 5000, 4
CONFIG = DPOTrajectoryBuilderConfig(
    turn_timeout=timedelta(milliseconds=IDLE),
    turn_memory=timedelta(milliseconds=MEMORY),
    max_candidates_per_turn=MOST,
)
Key = tuple[str, str, str]
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


class Core:
    """A pair builder whose changelog is kept compacted beside it."""

    def __init__(self, config: object = CONFIG) -> None:
        self.config = config
        self.log: dict[bytes, bytes] = {}
        self.builder = self.fresh()

    def fresh(self) -> PairBuilder:
        return PairBuilder(lambda _run, _digest: self.config, grace_ms=GRACE)  # type: ignore[arg-type,return-value]

    def send(self, event: BuilderEvent, time: int, original: int | None = None) -> tuple[str, Effects]:
        effects, outcome = Effects(), "ok"
        try:
            self.builder.handle(
                event,
                time=time,
                config_digest="d",
                raw=event.to_json(),
                effects=effects,
                original_time=original,
            )
        except Refused as refused:
            outcome = refused.code
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
    members: dict[str, bytes] = field(default_factory=dict)
    last: int = 0
    expected: int = 0


class Model:
    """The documented rules, over plain dictionaries that are searched from end to end."""

    def __init__(self) -> None:
        self.now: dict[str, int] = {}
        self.open: dict[Key, Turn] = {}
        self.closed: dict[Key, tuple[int, dict[str, bytes]]] = {}

    def advance(self, run: str, time: int) -> list[Closing]:
        closings = []
        if time <= self.now.get(run, -1):
            return []
        due = [(turn.last + IDLE + GRACE, key) for key, turn in self.open.items() if key[0] == run]
        for deadline, key in sorted(due):
            if deadline <= time:
                closings.append(self.close(key, "timeout", deadline))
        self.now[run] = time
        self.closed = {
            key: value for key, value in self.closed.items() if key[0] != run or value[0] + MEMORY > time
        }
        return closings

    def close(self, key: Key, reason: str, at: int) -> Closing:
        members = self.open.pop(key).members
        self.closed[key] = (at, members)
        return key, reason, at, tuple(members)

    def candidate(self, event: CandidateStep, sent: int) -> tuple[str, list[Closing]]:
        key, name, raw = (event.run_id, event.example_id, event.turn_id), event.candidate_id, event.to_json()
        turn = self.open.get(key)
        known = turn.members if turn else self.closed.get(key, (0, {}))[1]
        if name in known:
            return ("ok" if known[name] == raw else "contradiction"), []
        if key in self.closed or (turn is None and sent <= self.now[event.run_id] - MEMORY):
            return "late", []
        if turn is None:
            turn = self.open[key] = Turn()
        if len(turn.members) >= MOST:
            return "turn_full", []
        turn.members[name] = raw
        turn.last = self.now[event.run_id]
        turn.expected = max(turn.expected, event.expected_candidates or 0)
        if turn.expected and len(turn.members) >= turn.expected:
            return "ok", [self.close(key, "complete", self.now[event.run_id])]
        return "ok", []

    def end(self, run: str, example: str, turn: str | None) -> list[Closing]:
        keys = [key for key in self.open if key[:2] == (run, example) and turn in (None, key[2])]
        reason = "example_end" if turn is None else "turn_end"
        return [self.close(key, reason, self.now[run]) for key in sorted(keys)]


def closings(effects: Effects) -> list[Closing]:
    return [
        (
            (body.run_id, body.example_id, body.turn_id),
            body.closed_by,
            output.time,
            tuple(member.id for member in body.scores),
        )
        for output in effects.outbound
        if isinstance(body := output.body, TrajectoryGroup)
    ]


RUNS, NAMES = st.sampled_from(["r", "s/"]), st.sampled_from(["a", "b"])
STEPS = st.sampled_from([-6000, -100, 0, 1, 400, 1049, 1050, 3000, 5000, 7000])


class TurnLife(RuleBasedStateMachine):
    """Everything that may happen to turns, in any order."""

    @initialize()
    def start(self) -> None:
        self.core, self.model = Core(), Model()

    def at(self, run: str, step: int) -> int:
        return max(0, self.model.now.get(run, 100_000) + step)

    @rule(
        run=RUNS,
        example=NAMES,
        turn=st.sampled_from(["t", "u", "/"]),
        name=st.sampled_from("12345"),
        score=st.sampled_from([0.0, 0.0, 0.0, 1.0]),
        expected=st.sampled_from([None, None, 2, 3]),
        step=STEPS,
        replayed=st.sampled_from([None, None, None, -8000, -10]),
    )
    def candidate(
        self, run: str, example: str, turn: str, name: str, score: float, expected: int | None, step: int,
        replayed: int | None,
    ) -> None:  # fmt: skip
        event, time = candidate(run, example, turn, name, score=score, expected=expected), self.at(run, step)
        original = None if replayed is None else max(0, time + replayed)
        closed = self.model.advance(run, time)
        outcome, more = self.model.candidate(event, time if original is None else original)
        got, effects = self.core.send(event, time, original)
        assert (got, closings(effects)) == (outcome, closed + more)

    @rule(run=RUNS, example=NAMES, turn=st.sampled_from([None, "t", "u", "/"]), step=STEPS)
    def end(self, run: str, example: str, turn: str | None, step: int) -> None:
        time = self.at(run, step)
        wanted = self.model.advance(run, time) + self.model.end(run, example, turn)
        event: BuilderEvent = ExampleEnd(run_id=run, example_id=example)
        if turn is not None:
            event = TurnEnd(run_id=run, example_id=example, turn_id=turn)
        assert closings(self.core.send(event, time)[1]) == wanted

    @rule(run=RUNS, step=STEPS)
    def tick(self, run: str, step: int) -> None:
        time = self.at(run, step)
        wanted = self.model.advance(run, time)
        _, effects = self.core.send(Tick(run_id=run), time)
        assert closings(effects) == wanted
        assert (effects.outbound[-1].body, effects.outbound[-1].time) == (
            Tick(run_id=run),
            max(time, self.model.now[run]),
        )

    @rule(seed=st.integers(0, 9))
    def restart(self, seed: int) -> None:
        self.core.restart(seed)

    @invariant()
    def open_turns_are_the_models(self) -> None:
        assert self.core.builder.open_turns == len(self.model.open)

    @invariant()
    def the_state_holds_no_more_than_it_must(self) -> None:
        members = sum(len(turn.members) for turn in self.model.open.values())
        runs = len(self.model.now)
        assert len(self.core.log) == members + len(self.model.closed) + runs


TestTurnLife = TurnLife.TestCase
TestTurnLife.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_turn_that_room_was_made_for_is_late_not_new(restarted: bool) -> None:
    core = Core(CONFIG.model_copy(update={"max_turns_remembered": 2}))
    for number in range(3):
        core.send(candidate("r", "e", f"t{number}", "1", expected=1), 1000 + number)
    if restarted:
        core.restart()
    assert core.send(candidate("r", "e", "t0", "1", expected=1), 1000)[0] == "late"
    outcome, effects = core.send(candidate("r", "e", "t1", "1", expected=1), 1001)
    assert (outcome, effects.counts["duplicate"]) == ("ok", 1)


def test_a_turn_keeps_the_digest_it_opened_with() -> None:
    core = Core()
    effects = Effects()
    for name, config_digest in (("1", "old"), ("2", "new")):
        event = candidate("r", "e", "t", name, expected=2)
        core.builder.handle(event, time=1, config_digest=config_digest, raw=event.to_json(), effects=effects)
    body = effects.outbound[0].body
    assert isinstance(body, TrajectoryGroup)
    assert body.config_digest == "old"
    assert effects.outbound[0].extensions == {"tsdigest": "old"}


def test_an_unknown_configuration_changes_nothing() -> None:
    def unknown(run: str, config_digest: str) -> DPOTrajectoryBuilderConfig:
        raise KeyError(run, config_digest)

    builder, effects = PairBuilder(unknown), Effects()
    event = candidate("r", "e", "t", "1")
    with pytest.raises(KeyError):
        builder.handle(event, time=1, config_digest="d", raw=event.to_json(), effects=effects)
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
    group = effects.outbound[0].body
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
    _, effects = core.send(Tick(run_id="r"), 1900 + IDLE + GRACE)
    assert closings(effects) == [(("r", "e", "t"), "timeout", 1900 + IDLE + GRACE, ("1", "2", "3"))]


@pytest.mark.parametrize("seed", range(6))
def test_room_is_made_in_the_order_of_closing_after_a_restart_in_any_order(seed: int) -> None:
    core = Core(CONFIG.model_copy(update={"max_turns_remembered": 3}))
    for number in range(3):
        core.send(candidate("r", "e", f"t{number}", "1", expected=1), 1000 + number)
    core.restart(seed)
    core.send(candidate("r", "e", "t3", "1", expected=1), 1003)
    outcomes = [core.send(candidate("r", "e", f"t{n}", "1", expected=1), 1000 + n)[0] for n in range(4)]
    assert outcomes == ["late", "ok", "ok", "ok"]
