"""Turns of the pair builder that wait for scores."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.domain.turns.test_core import CONFIG, IDLE, MEMORY
from tunestream.domain.effects import Effects, Outbound, Refused
from tunestream.domain.scoring.rules import ScoringRules
from tunestream.domain.turns.core import BuilderEvent, PairBuilder, event_of
from tunestream.domain.turns.group_rules import GroupRules
from tunestream.events.groups import PreferenceGroup
from tunestream.events.messages import ChatMessage, OpenAIMessage
from tunestream.events.scores import ScoreAnswer, ScoreRequest, ScoreStep
from tunestream.events.trajectories import TrajectoryGroup
from tunestream.events.ttc import Tick, TurnEnd
from tunestream.events.turns import TurnMember, TurnStep

PEOPLE = ScoringRules(asks=False, waits=True, timeout_ms=60_000, early_ms=IDLE, most_bytes=1 << 20)
REWARD = replace(PEOPLE, asks=True)
RULES = {
    "people": GroupRules.of(CONFIG, scoring=PEOPLE),
    "reward": GroupRules.of(CONFIG, scoring=REWARD),
    "published": GroupRules.of(CONFIG, scoring=replace(PEOPLE, waits=False)),
    "expanded": replace(GroupRules.of(CONFIG, scoring=PEOPLE), expanded=True),
}
TOOLS = [{"type": "function", "function": {"name": "look"}}]


class Partition:
    """A pair builder whose changelog is kept compacted beside it."""

    def __init__(self, *, service: bool = True) -> None:
        self.service = service
        self.log: dict[bytes, bytes] = {}
        self.sent: list[Outbound] = []
        self.counts: dict[str, int] = {}
        self.restart()

    def restart(self) -> None:
        self.builder = PairBuilder(lambda run, _: RULES[run], partition=3, has_service=lambda: self.service)
        for key, value in reversed(self.log.items()):
            self.builder.restore(key, value)

    def send(
        self, body: TurnStep | ScoreStep | TurnEnd | Tick, time: int, *, everywhere: bool = False
    ) -> str:
        event: BuilderEvent = event_of(body)
        effects = Effects()
        try:
            self.builder.handle(
                event,
                time=time,
                config_digest="d",
                raw=body.to_json(),
                effects=effects,
                everywhere=everywhere,
            )
        except Refused as refused:
            return self.commit(effects, refused.code)
        return self.commit(effects, "ok")

    def answer(self, body: ScoreAnswer) -> str:
        effects = Effects()
        self.builder.answer(body, effects)
        return self.commit(effects, "ok")

    def commit(self, effects: Effects, outcome: str) -> str:
        self.builder.settle(effects)
        for key, value in effects.changes.items():
            if value is None:
                self.log.pop(key, None)
            else:
                self.log[key] = value
        self.sent += [one for one in effects.outbound if not isinstance(one.body, Tick)]
        self.counts = dict(effects.counts)
        return outcome

    def group(self) -> tuple[PreferenceGroup, int]:
        (output,) = [one for one in self.sent if one.topic == "trajectories"]
        return PreferenceGroup.model_validate_json(output.encoded()), output.time

    def request(self) -> ScoreRequest:
        (output,) = [one for one in self.sent if one.topic == "ttc.unscored"]
        assert (output.partition, output.key) == (3, (json.loads(output.encoded())["run_id"], "e"))
        return ScoreRequest.model_validate_json(output.encoded())


def member(name: str, score: float | None = None, **values: Any) -> TurnMember:
    return TurnMember(
        candidate_id=name, candidate_index=int(name), response=f"r{name}", score=score, **values
    )


def turn(run: str, *members: TurnMember, complete: bool = True, **values: Any) -> TurnStep:
    return TurnStep(
        run_id=run,
        example_id="e",
        turn_id="t",
        prompt="p",
        candidates=list(members),
        complete=complete,
        **values,
    )


def score(run: str, name: str, value: float, source: str = "ann", **metadata: Any) -> ScoreStep:
    return ScoreStep(
        run_id=run,
        example_id="e",
        turn_id="t",
        candidate_id=name,
        score=value,
        source=source,
        raw_metadata=metadata,
    )


def answered(request: ScoreRequest, scores: dict[str, float], **changes: Any) -> ScoreAnswer:
    """Return an answer as a service in any language would write it: the members again, in JSON."""
    values = json.loads(request.to_json()) | changes
    for one in values["members"]:
        if "score" not in one and one["id"] in scores:
            one["score"] = scores[one["id"]]
        elif "score" not in one:
            one["none"] = "the judge has no opinion"
    return ScoreAnswer.model_validate(values)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_turn_is_asked_about_and_its_answer_closes_it(restarted: bool) -> None:
    partition = Partition()
    said = ChatMessage(role="assistant", content="", reasoning_content="hm")
    first = member("1", policy_version="v1", token_ids=[1, 2], raw_metadata={"a": 1.5})
    second = member("2", 0.25).model_copy(update={"response": said})
    asked = turn("reward", first, second, member("3"), tools=TOOLS, prompt_token_ids=[7])
    asked = asked.model_copy(update={"prompt": [OpenAIMessage(role="user", content="é")]})
    partition.send(asked, 1000)
    request = partition.request()
    assert [one.score for one in request.members] == [None, 0.25, None]
    assert not any(key.startswith(b"c/") for key in partition.log), "nothing is kept of the turn itself"
    if restarted:
        partition.restart()
    partition.send(Tick(run_id="*"), 10**9)
    partition.answer(answered(request, {"1": 1.0}))
    group, time = partition.group()
    assert (time, group.closed_by, group.unscored) == (1000, "complete", 1)
    assert [(one.id, one.score) for one in group.members] == [("1", 1.0), ("2", 0.25)]
    assert (group.members[0].token_ids, group.members[0].metadata) == ([1, 2], {"a": 1.5})
    assert (group.members[0].policy_version, group.members[1].response) == ("v1", said)
    assert (group.contexts[0].tools, group.contexts[0].token_ids) == (TOOLS, [7])
    assert group.pairs == [(0, 1, 0.75)]
    assert partition.counts["unscored"] == 1
    partition.answer(answered(request, {"1": 0.0}))
    assert (partition.counts, len(partition.sent)) == ({"answer_dropped": 1}, 2)


def test_an_answer_to_another_request_is_dropped_and_the_turn_waits_on() -> None:
    partition = Partition()
    partition.send(turn("reward", member("1"), member("2")), 1000)
    request = partition.request()
    partition.answer(answered(request, {"1": 1.0, "2": 0.0}, request_id="f" * 32))
    assert partition.counts == {"answer_dropped": 1}
    partition.answer(answered(request, {"1": 1.0, "2": 0.0}))
    assert partition.group()[0].pairs == [(0, 1, 1.0)]


@pytest.mark.parametrize("run", ["people", "reward"])
def test_a_turn_whose_candidates_all_have_scores_waits_for_nobody(run: str) -> None:
    partition = Partition()
    partition.send(turn(run, member("1", 1.0), member("2", 0.0)), 1000)
    assert ([one.topic for one in partition.sent], len(partition.builder.waiting)) == (["trajectories"], 0)


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("before", [0, 1, 2, 3])
def test_people_score_before_and_after_the_turn_is_complete(before: int, restarted: bool) -> None:
    partition = Partition()
    scores = [
        score("people", "1", 1.0),
        score("people", "2", 0.0, why="odd"),
        score("people", "1", 0.5, "bob"),
    ]
    partition.send(turn("people", member("1"), complete=False), 1000)
    for one in scores[:before]:
        partition.send(one, 1100)
    partition.send(turn("people", member("2")), 1200)
    if restarted:
        partition.restart()
    for one in scores[before:]:
        partition.send(one, 1300)
    group, time = partition.group()
    assert (time, [one.score for one in group.members]) == (1200, [1.0, 0.0])
    assert group.members[1].metadata == {
        "given_scores": [{"score": 0.0, "source": "ann", "metadata": {"why": "odd"}}]
    }
    if before == 3:
        assert [one["source"] for one in group.members[0].metadata["given_scores"]] == ["ann", "bob"]
    else:
        assert partition.counts == {"score_late": 1}
    assert len(partition.log) == 2, "the turn's memory and the clock"


def test_a_score_beside_a_published_one_is_kept_and_does_not_count() -> None:
    partition = Partition()
    partition.send(score("published", "1", -5.0), 1000)
    partition.send(turn("published", member("1", 1.0, raw_metadata={"a": 1}), member("2", 0.0)), 1000)
    first = partition.group()[0].members[0]
    assert first.score == 1.0
    assert first.metadata == {"a": 1, "given_scores": [{"score": -5.0, "source": "ann"}]}


def test_the_reward_function_does_not_overrule_people() -> None:
    partition = Partition()
    partition.send(turn("reward", member("1"), member("2")), 1000)
    partition.send(score("reward", "1", 0.75), 1100)
    partition.answer(answered(partition.request(), {"1": 0.1, "2": 0.25}))
    group, _ = partition.group()
    assert [one.score for one in group.members] == [0.75, 0.25]
    sources = [one["source"] for one in group.members[0].metadata["given_scores"]]
    assert (sources, group.members[1].metadata) == (["ann", "reward_function"], {})


def test_a_turn_closes_with_the_scores_that_it_has_when_its_time_is_up() -> None:
    partition = Partition()
    partition.send(turn("people", member("1"), member("2"), member("3")), 1000)
    partition.send(score("people", "2", 1.0), 1100)
    partition.send(Tick(run_id="*"), 60_999)
    assert partition.sent == []
    partition.send(Tick(run_id="*"), 61_000)
    group, time = partition.group()
    assert (time, group.unscored, group.pairs, [one.id for one in group.members]) == (1000, 2, [], ["2"])
    assert partition.counts == {"closed_complete": 1, "score_timeout": 1, "unscored": 2}


def test_candidates_of_a_turn_that_waits_are_late_however_long_it_waits() -> None:
    partition = Partition()
    partition.send(turn("reward", member("1"), member("2")), 1000)
    assert partition.send(turn("reward", member("3")), 1001) == "late"
    assert partition.send(turn("reward", member("2")), 1001) == "ok"
    assert partition.counts == {"duplicate": 1}
    partition.send(Tick(run_id="*"), 1000 + 2 * MEMORY)
    assert partition.send(turn("reward", member("3")), 1000 + 2 * MEMORY) == "late"
    partition.answer(answered(partition.request(), {"1": 1.0, "2": 0.0}))
    partition.send(turn("reward", member("2")), 1000 + 2 * MEMORY)
    assert partition.counts == {"duplicate": 1}, "its candidates are remembered again"


def test_turns_wait_for_a_reward_service_and_are_asked_about_when_it_comes() -> None:
    partition = Partition(service=False)
    partition.send(turn("reward", member("1"), member("2")), 1000)
    assert (partition.sent, partition.builder.waiting.without_service()) == ([], {"reward": 1})
    partition.restart()
    partition.service = True
    partition.send(Tick(run_id="*"), 2000)
    assert partition.sent[0].time == 1000
    partition.restart()
    partition.answer(answered(partition.request(), {"1": 1.0, "2": 0.0}))
    assert partition.group()[1] == 1000


def test_when_the_reward_service_goes_away_only_new_turns_are_closed_by_time() -> None:
    """The candidates of one that was asked about are in the request alone: it waits for the next service."""
    partition = Partition()
    partition.send(turn("reward", member("1"), member("2")), 1000)
    request = partition.request()
    partition.service = False
    partition.restart()
    partition.send(turn("reward", member("3")).model_copy(update={"turn_id": "u"}), 1001)
    assert partition.builder.waiting.without_service() == {"reward": 2}
    partition.send(Tick(run_id="*"), 61_001)
    closed, _ = partition.group()
    assert (closed.turn_id, closed.unscored) == ("u", 1)
    partition.sent.clear()
    assert partition.builder.waiting.without_service() == {"reward": 1}
    partition.service = True
    assert partition.builder.waiting.without_service() == {}
    partition.answer(answered(request, {"1": 1.0, "2": 0.0}))
    assert partition.group()[0].turn_id == "t"


def test_a_run_whose_scores_are_published_closes_without_those_that_are_missing() -> None:
    partition = Partition()
    partition.send(turn("published", member("1"), member("2", 1.0)), 1000)
    assert partition.group()[0].unscored == 1


def test_a_score_without_a_candidate_is_counted_after_its_time_unless_it_went_everywhere() -> None:
    partition = Partition()
    partition.send(score("people", "1", 1.0), 1000)
    partition.send(score("people", "2", 1.0), 1000, everywhere=True)
    partition.send(Tick(run_id="*"), 1000 + IDLE)
    assert (partition.counts, set(partition.log)) == ({"score_without_candidate": 1}, {b"run/*"})


def test_a_score_of_no_candidate_of_a_closed_turn_is_refused() -> None:
    partition = Partition()
    partition.send(turn("published", member("1", 1.0), member("2", 0.0)), 1000)
    assert partition.send(score("published", "9", 1.0), 1001) == "late"


def test_a_group_whose_pairs_are_spelt_out_has_the_scores_that_came_later() -> None:
    partition = Partition()
    partition.send(turn("expanded", member("1"), member("2", 0.5)), 1000)
    partition.send(score("expanded", "1", 1.0), 1001)
    group = partition.sent[0].body
    assert isinstance(group, TrajectoryGroup)
    assert group.trajectories[0].reward == 0.5


def test_the_rules_are_those_of_the_run() -> None:
    from tests.helpers.runs import run_config

    later = run_config("r", scores="later", trajectory_builder={"score_timeout": "1h", "turn_timeout": "2s"})
    rules = ScoringRules.of(later)
    assert rules is not None
    assert (rules.waits, rules.asks) == (True, False)
    assert (rules.timeout_ms, rules.early_ms) == (
        3_600_000,
        timedelta(seconds=2) // timedelta(milliseconds=1),
    )
