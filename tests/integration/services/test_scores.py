"""Turns that wait for scores become one group each, though their pair builder is killed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from aiokafka import ConsumerRecord

from tests.helpers.groups import GROUP_TYPES, read_group
from tests.helpers.log import header, read_all, read_until
from tests.helpers.runs import apply_run
from tests.helpers.services import ServiceProcess
from tunestream.config.settings import KafkaSettings
from tunestream.events.base import Wire
from tunestream.events.cloudevents import Envelope, parse_time
from tunestream.events.registry import type_of
from tunestream.events.runs import FORMAT
from tunestream.events.scores import ScoreAnswer, ScoreStep
from tunestream.events.turns import TurnMember, TurnStep
from tunestream.streams.admin import apply_topics
from tunestream.streams.publish import EncodedRecord, EventProducer, event_record
from tunestream.streams.runs import write_format

TURNS = 24
AT = 1_800_000_000_000
ROUNDS = "once", "twice", "wrong, then right", "in part"


def record(
    name: str, key: tuple[str, ...], body: Wire, time: int, partition: int | None, **more: str
) -> EncodedRecord:
    envelope = Envelope(id="1", type=type_of(body), source="/tests", time=time, extensions=more)
    made = event_record(name, key, body.to_json(), envelope)
    return EncodedRecord(made.topic, made.key, made.value, made.headers, partition)


def turn(run: str, number: int, digest: str) -> EncodedRecord:
    members = [TurnMember(candidate_id=f"{run}{number}-{at}", response=f"r{at}") for at in range(3)]
    step = TurnStep(
        run_id=run, example_id=f"e{number}", turn_id="t", prompt="p", candidates=members, complete=True
    )
    return record("ttc.candidates", (run, f"e{number}"), step, AT + number, None, tsdigest=digest)


def scores(number: int, members: Iterable[int], digest: str) -> list[EncodedRecord]:
    """Return what a person scores candidates of a turn of the run `later`."""
    steps = [
        ScoreStep(
            run_id="later",
            example_id=f"e{number}",
            turn_id="t",
            candidate_id=f"later{number}-{at}",
            score=float(at),
            source="ann",
        )
        for at in members
    ]
    key = ("later", f"e{number}")
    return [record("ttc.candidates", key, step, AT + 1000, None, tsdigest=digest) for step in steps]


def answers(request: ConsumerRecord) -> list[EncodedRecord]:
    """Return what a test double of the reward service answers: properly, twice, wrongly or in part."""
    values: dict[str, Any] = json.loads(request.value)
    how = ROUNDS[int(values["example_id"][1:]) % len(ROUNDS)]
    for at, member in enumerate(values["members"]):
        if at == 0 and how == "in part":
            member["none"] = "no opinion"
        else:
            member["score"] = float(at)
    bodies = [ScoreAnswer.model_validate(values)]
    if how == "twice":
        bodies *= 2
    if how == "wrong, then right":
        bodies.insert(0, bodies[0].model_copy(update={"request_id": "f" * 32}))
    key = (values["run_id"], values["example_id"])
    return [record("ttc.scores", key, body, 0, request.partition) for body in bodies]


async def write(settings: KafkaSettings, records: Iterable[EncodedRecord]) -> None:
    async with EventProducer(settings) as producer:
        for one in records:
            await producer.send(one)


def groups(records: Iterable[ConsumerRecord]) -> list[ConsumerRecord]:
    return [one for one in records if header(one, "ce_type") in GROUP_TYPES]


async def test_each_turn_that_waits_becomes_one_group_though_its_pair_builder_is_killed(
    kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    kafka = kafka_settings
    await apply_topics(kafka)
    await write_format(kafka, FORMAT, source="/tests", reward_service=True)
    asked = (await apply_run(kafka, "asked", reward_function={"name": "judge"})).digest
    later = (await apply_run(kafka, "later", scores="later")).digest
    first, second = (ServiceProcess("pair_builder", kafka, tmp_path, replica=name) for name in "01")
    async with first:
        await write(kafka, [turn("asked", number, asked) for number in range(TURNS)])
        await write(kafka, [turn("later", number, later) for number in range(TURNS)])
        requests = await read_until(kafka, "ttc.unscored", lambda found: len(found) == TURNS)
        await write(kafka, [one for request in requests[: TURNS // 3] for one in answers(request)])
        await write(kafka, [one for number in range(TURNS) for one in scores(number, [2], later)])
        await write(kafka, [one for number in range(TURNS // 3) for one in scores(number, [0, 1], later)])
        await read_until(kafka, "trajectories", lambda found: len(groups(found)) >= TURNS // 3)
        first.kill()
        await write(kafka, [one for request in requests[TURNS // 3 : TURNS // 2] for one in answers(request)])
        first.start()
        async with second:  # what waits moves with its partition
            await first.ready()
            await write(kafka, [one for request in requests[TURNS // 2 :] for one in answers(request)])
            rest = range(TURNS // 3, TURNS)
            await write(kafka, [one for number in rest for one in scores(number, [0, 1], later)])
            await read_until(kafka, "trajectories", lambda found: len(groups(found)) >= 2 * TURNS)
            found = groups(await read_all(kafka, "trajectories"))
    assert len(await read_all(kafka, "ttc.unscored")) == TURNS, "nobody is asked twice"
    bodies = {(group.run_id, group.example_id): group for one in found if (group := read_group(one.value))}
    assert len(bodies) == len(found) == 2 * TURNS
    for one in found:
        group = read_group(one.value)
        in_part = group.run_id == "asked" and int(group.example_id[1:]) % len(ROUNDS) == 3
        assert [member.score for member in group.scores] == ([1.0, 2.0] if in_part else [0.0, 1.0, 2.0])
        complete = parse_time(header(one, "ce_time") or "")
        assert AT <= complete < AT + TURNS, "when its turn was complete, not when it was scored"
    assert await read_all(kafka, "ttc.scores.dlq") == []
    assert await read_all(kafka, "ttc.candidates.dlq") == []
