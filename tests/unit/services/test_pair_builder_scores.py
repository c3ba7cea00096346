"""The pair builder's requests for scores and their answers, as its handler takes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from tests.helpers.inbound import KnownRuns, inbound
from tests.helpers.runs import run_config
from tunestream.artifacts import ArtifactStore
from tunestream.config.run.run import RunConfig
from tunestream.domain.effects import Effects, Outbound, Refused
from tunestream.domain.scoring.rules import ScoringRules
from tunestream.domain.turns.core import PairBuilder
from tunestream.domain.turns.group_rules import GroupRules
from tunestream.events.base import Wire
from tunestream.events.groups import PreferenceGroup
from tunestream.events.keys import encode_key
from tunestream.events.scores import ScoreAnswer, ScoreAnswerRef, ScoreRequestRef, ScoreStep
from tunestream.events.ttc import Tick
from tunestream.events.turns import TurnMember, TurnStep
from tunestream.streams.tasks.handler import Inbound
from tunestream_services.pair_builder.handler import PairBuilderHandler

KEY = encode_key("r", "e")
RUN = run_config("r", reward_function={"name": "judge"})
OTHER = run_config("r", reward_function={"name": "judge"}, batching={"window_pairs": 7})


class Runs(KnownRuns):
    """Runs of a deployment with a reward service, or without one."""

    def __init__(self, *configs: RunConfig, service: bool = True) -> None:
        super().__init__(*configs)
        self.service = service

    @property
    @override
    def reward_service(self) -> bool:
        return self.service


def handler_of(runs: Runs, folder: Path, largest: int = 1 << 20) -> PairBuilderHandler:
    def rules(run: str, digest: str) -> GroupRules:
        config = runs.config(run, digest)
        return GroupRules.of(config.trajectory_builder, scoring=ScoringRules.of(config))

    builder = PairBuilder(rules, partition=3, has_service=lambda: runs.reward_service)
    return PairBuilderHandler(builder, runs, ArtifactStore(str(folder)), largest)


async def handled(handler: PairBuilderHandler, *records: Inbound) -> tuple[list[Outbound], Effects]:
    effects = Effects()
    await handler.prepare(records, 0.0)
    for record in records:
        handler.handle(record, effects)
    await handler.complete(effects)
    return [one for one in effects.outbound if not isinstance(one.body, Tick)], effects


def turn(*, stamped: str = RUN.digest) -> Inbound:
    members = [TurnMember(candidate_id=name, response=f"r{name}" * 50) for name in "12"]
    step = TurnStep(run_id="r", example_id="e", turn_id="t", prompt="p", candidates=members, complete=True)
    return inbound(step, KEY, tsdigest=stamped)


def answer_of(request: bytes) -> ScoreAnswer:
    values: dict[str, Any] = json.loads(request)
    for at, member in enumerate(values["members"]):
        member["score"] = float(at)
    return ScoreAnswer.model_validate(values)


def answered(body: Wire) -> Inbound:
    """Return an answer that names no configuration and no time, which it does not need."""
    return inbound(body, KEY, ce_time=None)


async def test_a_large_request_goes_to_the_artifact_store_and_so_may_its_answer(tmp_path: Path) -> None:
    store, handler = ArtifactStore(str(tmp_path)), handler_of(Runs(RUN), tmp_path, largest=300)
    ((output,), _) = await handled(handler, turn())
    assert isinstance(output.body, ScoreRequestRef)
    assert output.type == "tunestream.unscored_ref.v1"
    answer = answer_of(store.get_bytes(output.body.uri, output.body.sha256))
    assert (output.body.run_id, output.body.turn_id) == (answer.run_id, answer.turn_id)
    stored = store.put_bytes(answer.to_json())
    names = answer.model_dump(include={"run_id", "example_id", "turn_id", "request_id"})
    ref = ScoreAnswerRef(**names, **stored._asdict())
    ((group,), effects) = await handled(handler, answered(ref), answered(ref))
    assert group.topic == "trajectories"
    assert effects.counts["answer_dropped"] == 1
    absent = ref.model_copy(update={"uri": "sha256:none"})
    _, effects = await handled(handler, answered(absent))
    assert effects.counts["answer_dropped"] == 1, "what nobody awaits is not fetched"


async def test_what_is_stored_and_is_no_answer_is_refused(tmp_path: Path) -> None:
    store, handler = ArtifactStore(str(tmp_path)), handler_of(Runs(RUN), tmp_path)
    ((output,), _) = await handled(handler, turn())
    names = {name: json.loads(output.encoded())[name] for name in ("run_id", "example_id", "turn_id")}
    stored = store.put_bytes(b'{"members": 1}')
    ref = ScoreAnswerRef(**names, request_id=output.id, **stored._asdict())
    with pytest.raises(Refused, match="not a valid ScoreAnswer"):
        await handled(handler, answered(ref))


async def test_turns_that_were_asked_about_are_shown_when_the_reward_service_goes_away(
    tmp_path: Path,
) -> None:
    runs = Runs(RUN)
    handler = handler_of(runs, tmp_path)
    await handled(handler, turn())
    assert handler.warnings() == []
    runs.service = False
    (warning,) = handler.warnings()
    assert "turns that were asked about wait for it without end" in warning


async def test_a_run_whose_reward_function_nobody_serves_is_shown(tmp_path: Path) -> None:
    runs = Runs(RUN, service=False)
    handler = handler_of(runs, tmp_path)
    assert handler.warnings() == []
    outputs, _ = await handled(handler, turn())
    assert outputs == []
    (warning,) = handler.warnings()
    assert "run r: turns wait for its reward function" in warning
    gauges = handler.gauges()
    assert (gauges["waiting_turns"], gauges["oldest_waiting_turn_time_seconds"]) == (1, 1.0)
    assert gauges["waiting_turn_bytes"] > 200
    runs.service = True
    outputs, _ = await handled(handler, inbound(Tick(run_id="*"), b"*", ce_time=2_000))
    assert [one.topic for one in outputs] == ["ttc.unscored"]
    assert (handler.warnings(), handler.gauges()["waiting_turn_bytes"]) == ([], 0)


@pytest.mark.parametrize("service", [False, True])
async def test_a_turn_that_waits_keeps_its_configuration(tmp_path: Path, service: bool) -> None:
    """Its state waits for a configuration that cannot be read, and nothing of it is lost meanwhile."""
    runs = Runs(RUN, service=service)
    outputs, effects = await handled(handler_of(runs, tmp_path), turn())
    runs.apply(OTHER)
    handler = handler_of(runs, tmp_path)
    for key, value in effects.changes.items():
        if value is not None:
            handler.restore(key, value)
    score = ScoreStep(run_id="r", example_id="e", turn_id="t", candidate_id="1", score=1.0, source="ann")
    record = (
        answered(answer_of(outputs[0].encoded())) if service else inbound(score, KEY, tsdigest=OTHER.digest)
    )
    with pytest.raises(Refused, match="unknown_run"):
        await handled(handler, record)
    runs.apply(RUN, OTHER)
    outputs, _ = await handled(handler, record)
    if not service:
        again = score.model_copy(update={"candidate_id": "2"})
        outputs, _ = await handled(handler, inbound(again, KEY, tsdigest=OTHER.digest))
    group = PreferenceGroup.model_validate_json(outputs[0].encoded())
    assert (group.config_digest, len(group.members)) == (RUN.digest, 2)
