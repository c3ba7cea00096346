"""Turns that wait for scores, against a naive model, with restarts from the changelog at any moment."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tunestream.domain.effects import Effects, Refused
from tunestream.domain.scoring.asked import Asked
from tunestream.domain.scoring.given import TurnKey
from tunestream.domain.scoring.rules import ScoringRules
from tunestream.domain.scoring.turns import Scores
from tunestream.domain.scoring.waiting import Waiting
from tunestream.events.groups import GroupContext
from tunestream.events.ids import stable_id
from tunestream.events.scores import AskedMember, ScoreAnswer, ScoreStep
from tunestream.events.trajectories import CloseReason

PEOPLE = ScoringRules(asks=False, waits=True, timeout_ms=5000, early_ms=1000, most_bytes=40)
REWARD = replace(PEOPLE, asks=True)
NOBODY = replace(PEOPLE, waits=False)
RULES = {"people": PEOPLE, "reward": REWARD, "nobody": NOBODY, "episodes": None}
REASON = CloseReason.TURN_END

Group = tuple[TurnKey, int, tuple[tuple[str, tuple[tuple[float, str], ...]], ...]]


@dataclass
class Turn:
    members: dict[str, bool] = field(default_factory=dict)  # id → whether it came with a score
    config_digest: str = "d"

    @property
    def size(self) -> int:
        return 10 * len(self.members)

    @property
    def ids(self) -> list[str]:
        return list(self.members)

    @property
    def unscored(self) -> list[str]:
        return [name for name, scored in self.members.items() if not scored]


class Partition:
    """Owns the turns, and keeps the compacted changelog of those that wait beside them."""

    def __init__(self) -> None:
        self.bodies: dict[TurnKey, Turn] = {}  # of the open turns, and of those that are kept
        self.log: dict[bytes, bytes] = {}
        self.groups: list[Group] = []
        self.requests: list[tuple[TurnKey, str]] = []
        self.service = False
        self.waiting: Waiting[Turn]
        self.restart()

    def restart(self, seed: int = 0) -> None:
        self.open = set(self.bodies)
        self.waiting = Waiting(self, lambda run, _: RULES[run], self.is_open, lambda: self.service)
        records = list(self.log.items())
        random.Random(seed).shuffle(records)
        for key, value in records:
            self.waiting.restore(key, value)
        self.waiting.settle()

    def is_open(self, key: TurnKey, name: str) -> bool:
        return key in self.open and name in self.bodies[key].members

    def commit(self, effects: Effects) -> Counter[str]:
        for key, value in effects.changes.items():
            if value is None:
                self.log.pop(key, None)
            else:
                self.log[key] = value
        return effects.counts

    def complete(self, key: TurnKey, at: int) -> Counter[str]:
        effects = Effects()
        turn = self.bodies[key]
        self.open.remove(key)
        scores = self.waiting.complete(key, turn, REASON, at, effects)
        if scores is not None:
            self.close(key, turn, REASON, at, scores, effects)
        return self.commit(effects)

    def advance(self, time: int) -> Counter[str]:
        effects = Effects()
        while (due := self.waiting.next_due(time)) is not None:
            self.waiting.expire(due[1], effects)
        self.waiting.catch_up(effects)
        return self.commit(effects)

    def score(self, step: ScoreStep, now: int, *, everywhere: bool = False) -> tuple[str, Counter[str]]:
        effects, outcome = Effects(), "ok"
        try:
            self.waiting.score(step, "d", now, everywhere=everywhere, effects=effects)
        except Refused as refused:
            outcome = refused.code
        return outcome, self.commit(effects)

    def answer(self, answer: ScoreAnswer) -> Counter[str]:
        effects = Effects()
        self.waiting.answer(answer, effects)
        return self.commit(effects)

    def close(
        self, key: TurnKey, turn: Turn, reason: CloseReason, at: int, scores: Scores, effects: Effects
    ) -> None:
        assert reason is REASON
        self.bodies.pop(key, None)
        members = {
            name: tuple((one.score, one.source) for one in scores[name].scores) if name in scores else ()
            for name in turn.members
        }
        self.groups.append((key, at, tuple(members.items())))

    def ask(self, key: TurnKey, turn: Turn, at: int, scores: Scores, effects: Effects) -> str:
        del scores, effects
        assert self.bodies.pop(key) is turn
        request = stable_id("request", *key, str(at))
        self.requests.append((key, request))
        return request

    def rebuild(self, key: TurnKey, asked: Asked, answer: ScoreAnswer) -> Turn:
        del key
        return Turn(
            {member.id: number not in asked.unscored for number, member in enumerate(answer.members)},
            asked.config_digest,
        )

    def reopen(self, key: TurnKey) -> Turn:
        self.open.remove(key)
        return self.bodies[key]


@dataclass
class Waits:
    members: dict[str, bool]
    at: int
    request: str | None = None


class Model:
    """The documented rules, over plain dictionaries that are searched from end to end."""

    def __init__(self) -> None:
        self.now = 10_000
        self.service = False
        self.open: dict[TurnKey, dict[str, bool]] = {}
        self.waits: dict[TurnKey, Waits] = {}
        self.scores: dict[tuple[TurnKey, str], list[tuple[float, str]]] = {}
        self.early: dict[tuple[TurnKey, str], int] = {}
        self.to_all: set[tuple[TurnKey, str]] = set()
        self.groups: list[Group] = []
        self.counts: Counter[str] = Counter()

    def kept(self, run: str | None = None) -> list[TurnKey]:
        found = [key for key, one in self.waits.items() if one.request is None and run in (None, key[0])]
        return sorted(found, key=lambda key: (self.waits[key].at, key))

    def missing(self, key: TurnKey, members: dict[str, bool]) -> bool:
        return any(not scored and (key, name) not in self.scores for name, scored in members.items())

    def close(self, key: TurnKey, members: dict[str, bool], at: int) -> None:
        given = {name: tuple(self.scores.get((key, name), ())) for name in members}
        self.groups.append((key, at, tuple(given.items())))
        for one in [one for one in self.scores if one[0] == key]:
            self.drop(one)

    def close_waiting(self, key: TurnKey) -> None:
        waits = self.waits.pop(key)
        self.close(key, waits.members, waits.at)

    def drop(self, one: tuple[TurnKey, str], *, lost: bool = False) -> None:
        scores = self.scores.pop(one)
        self.early.pop(one, None)
        if lost and one not in self.to_all:
            self.counts["score_without_candidate"] += len(scores)

    def complete(self, key: TurnKey) -> None:
        members = self.open.pop(key)
        for one in [one for one in self.scores if one[0] == key]:
            if one[1] not in members:
                self.drop(one, lost=True)
            else:
                self.early.pop(one, None)
        rules = RULES[key[0]]
        assert rules is not None
        if not rules.waits or not self.missing(key, members):
            self.close(key, members, self.now)
            return
        self.waits[key] = Waits(members, self.now)
        if rules.asks and self.service:
            self.ask(key)
            return
        while sum(10 * len(self.waits[one].members) for one in self.kept(key[0])) > rules.most_bytes:
            self.counts["waiting_full"] += 1
            self.close_waiting(self.kept(key[0])[0])

    def ask(self, key: TurnKey) -> None:
        self.waits[key].request = stable_id("request", *key, str(self.waits[key].at))
        self.counts["scores_asked"] += 1

    def advance(self, step: int) -> None:
        self.now += step
        for key in self.kept():
            if self.waits[key].at + PEOPLE.timeout_ms <= self.now:
                self.counts["score_timeout"] += 1
                self.close_waiting(key)
        for one, until in list(self.early.items()):
            if one not in self.early or until > self.now:
                continue
            members = self.open.get(one[0]) or {}
            waits = self.waits.get(one[0])
            if one[1] in members or waits is not None:
                del self.early[one]
            else:
                self.drop(one, lost=True)
        if self.service:
            for key in self.kept("reward"):
                self.ask(key)

    def score(self, key: TurnKey, name: str, value: float, source: str, *, everywhere: bool) -> str:
        waits = self.waits.get(key)
        if waits is not None and waits.request is None and name not in waits.members:
            return "late"
        known = self.scores.get((key, name))
        if known is None:
            self.scores[key, name] = [(value, source)]
            (self.to_all.add if everywhere else self.to_all.discard)((key, name))
            if waits is None and name not in self.open.get(key, {}):
                self.early[key, name] = self.now + PEOPLE.early_ms
        elif (value, source) in known:
            self.counts["duplicate"] += 1
        elif len(known) == 8:
            self.counts["score_dropped"] += 1
        else:
            known.append((value, source))
        if waits is not None and waits.request is None and not self.missing(key, waits.members):
            self.close_waiting(key)
        return "ok"

    def answer(self, key: TurnKey, request: str, values: dict[str, float]) -> None:
        waits = self.waits.get(key)
        if waits is None or waits.request != request:
            self.counts["answer_dropped"] += 1
            return
        for one in [one for one in self.scores if one[0] == key and one[1] not in waits.members]:
            self.drop(one, lost=True)
        for name, scored in waits.members.items():
            if not scored and name in values:
                given = self.scores.setdefault((key, name), [])
                if not given or given[0][0] != values[name]:
                    given.append((values[name], "reward_function"))
        self.close_waiting(key)


KEYS = st.builds(
    lambda run, turn: (run, "e/", turn),
    st.sampled_from(["people", "people", "reward", "reward", "nobody"]),
    st.sampled_from("tu"),
)
NAMES = st.sampled_from("112233")
VALUES = st.sampled_from([0.0, 0.5, 1.0])
SOURCES = st.sampled_from(["ann", "bob", "cy", "di"])


class ScoringLife(RuleBasedStateMachine):
    """Everything that may happen to turns that wait, in any order."""

    @initialize()
    def start(self) -> None:
        self.real, self.model, self.counts = Partition(), Model(), Counter[str]()

    @rule(key=KEYS, name=NAMES, scored=st.sampled_from([False, False, True]))
    def candidate(self, key: TurnKey, name: str, scored: bool) -> None:
        if key in self.model.waits:
            return
        self.model.open.setdefault(key, {}).setdefault(name, scored)
        self.real.bodies.setdefault(key, Turn()).members.setdefault(name, scored)
        self.real.open.add(key)

    @precondition(lambda self: self.model.open)
    @rule(data=st.data())
    def complete(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.model.open)))
        self.model.complete(key)
        self.counts += self.real.complete(key, self.model.now)

    @rule(
        key=KEYS,
        name=NAMES,
        value=VALUES,
        source=SOURCES,
        to_all=st.booleans(),
    )
    def score(self, key: TurnKey, name: str, value: float, source: str, to_all: bool) -> None:
        wanted = self.model.score(key, name, value, source, everywhere=to_all)
        outcome, counts = self.real.score(step(key, name, value, source), self.model.now, everywhere=to_all)
        assert outcome == wanted
        self.counts += counts

    @precondition(lambda self: self.real.requests)
    @rule(data=st.data(), scored=st.dictionaries(NAMES, VALUES), wrong=st.sampled_from([False, False, True]))
    def answer(self, data: st.DataObject, scored: dict[str, float], wrong: bool) -> None:
        key, request = data.draw(st.sampled_from(self.real.requests))
        waits = self.model.waits.get(key)
        answered = waits is not None and waits.request == request
        members = waits.members if waits is not None and answered else {"1": False}
        request = "f" * 32 if wrong else request
        self.model.answer(key, request, scored)
        self.counts += self.real.answer(answer_to(key, request, members, scored))

    @rule(ms=st.sampled_from([0, 1, 1, 500, 999, 1000, 4000]))
    def advance(self, ms: int) -> None:
        self.model.advance(ms)
        self.counts += self.real.advance(self.model.now)

    @rule()
    def a_reward_service_comes(self) -> None:
        self.model.service = self.real.service = True

    @rule(seed=st.integers(0, 9))
    def restart(self, seed: int) -> None:
        self.real.restart(seed)

    @invariant()
    def all_is_as_in_the_model(self) -> None:
        assert sorted(self.real.groups) == sorted(self.model.groups)
        assert +self.counts == +self.model.counts
        waiting, waits = self.real.waiting, self.model.waits
        assert len(waiting) == len(waits)
        assert waiting.oldest == min((one.at for one in waits.values()), default=None)
        assert waiting.size == sum(10 * len(waits[key].members) for key in self.model.kept())
        assert len(self.real.log) == len(waits) + len(self.model.scores), "no more state than is needed"
        assert self.real.open == self.model.open.keys()


TestScoringLife = ScoringLife.TestCase
TestScoringLife.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)


def step(key: TurnKey, name: str, value: float = 1.0, source: str = "ann", **metadata: object) -> ScoreStep:
    run, example, turn = key
    return ScoreStep(
        run_id=run,
        example_id=example,
        turn_id=turn,
        candidate_id=name,
        score=value,
        source=source,
        raw_metadata=metadata,
    )


def answer_to(key: TurnKey, request: str, members: dict[str, bool], scores: dict[str, float]) -> ScoreAnswer:
    run, example, turn = key
    asked = [
        AskedMember(
            id=name,
            response="r",
            score=0.25 if scored else scores.get(name),
            none=None if scored or name in scores else "no idea",
        )
        for name, scored in members.items()
    ]
    return ScoreAnswer(
        run_id=run,
        example_id=example,
        turn_id=turn,
        request_id=request,
        contexts=[GroupContext(prompt="p")],
        members=asked,
    )


KEY: TurnKey = ("reward", "e", "t")


def asked_partition(members: dict[str, bool]) -> tuple[Partition, str]:
    real = Partition()
    real.service = True
    real.bodies[KEY] = Turn(members)
    real.open.add(KEY)
    real.complete(KEY, 10)
    return real, real.requests[0][1]


def test_an_answer_with_other_candidates_is_refused_and_the_turn_waits_on() -> None:
    real, request = asked_partition({"1": False, "2": False})
    with pytest.raises(Refused, match="contradiction"):
        real.answer(answer_to(KEY, request, {"2": False, "1": False}, {"1": 1.0}))
    assert len(real.waiting) == 1
    real.answer(answer_to(KEY, request, {"1": False, "2": False}, {"1": 1.0}))
    assert real.groups == [(KEY, 10, (("1", ((1.0, "reward_function"),)), ("2", ())))]


def test_a_turn_that_is_asked_about_takes_little_state() -> None:
    real, _ = asked_partition({f"{number:032x}": number % 2 == 0 for number in range(256)})
    (value,) = real.log.values()
    assert len(value) < 100


def test_no_time_closes_a_turn_that_was_asked_about() -> None:
    real, _ = asked_partition({"1": False})
    real.advance(10**15)
    assert (len(real.waiting), real.groups) == (1, [])


def test_turns_are_asked_about_a_few_at_a_time_when_a_reward_service_comes() -> None:
    real = Partition()
    for number in range(4):
        key = ("reward", "e", str(number))
        real.bodies[key] = Turn({"1": False})
        real.open.add(key)
        real.complete(key, 10)
    assert real.waiting.without_service() == {"reward": 4}
    real.service = True
    real.advance(10)
    assert ([key[2] for key, _ in real.requests], real.waiting.without_service()) == (list("0123"), {})
    assert real.waiting.size == 0


def test_a_score_keeps_what_came_with_it_unless_it_is_large() -> None:
    real = Partition()
    _, counts = real.score(step(KEY, "1", note="x" * 2000), 0)
    assert counts["score_metadata_dropped"] == 1
    real.score(step(KEY, "1", source="bob", note="clear"), 0)
    (value,) = real.log.values()
    assert b'"clear"' in value
    assert b"xx" not in value


def test_scores_are_not_for_runs_of_episodes() -> None:
    assert Partition().score(step(("episodes", "e", "t"), "1"), 0)[0] == "wrong_builder"
