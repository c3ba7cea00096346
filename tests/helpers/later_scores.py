"""Turns whose scores come later: of people, as events of their own, and of a stand-in reward service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from aiokafka import AIOKafkaProducer, ConsumerRecord, TopicPartition

from tests.helpers.log import header
from tests.helpers.runs import apply_run
from tests.helpers.workload import CANDIDATES, Event
from tunestream.config.settings import KafkaSettings
from tunestream.events.cloudevents import Envelope
from tunestream.events.registry import type_of
from tunestream.events.runs import FORMAT
from tunestream.events.scores import ScoreAnswer, ScoreRequest, TTCScore
from tunestream.events.ttc import TTCTurnEnd
from tunestream.events.turns import TTCTurn, TTCTurnCandidate
from tunestream.streams.broker.client import make_consumer, make_producer
from tunestream.streams.broker.metadata import partition_count
from tunestream.streams.publish import event_record
from tunestream.streams.runs import write_format

__all__ = ["JUDGED", "LATER_TURNS", "SCORED_BY_PEOPLE", "apply_later_runs", "later_events", "reward_service"]

SCORED_BY_PEOPLE: Final = "people"
JUDGED: Final = "judged"
EXAMPLES: Final = 3
LATER_TURNS: Final = 2 * EXAMPLES
"""How many turns, of both runs, come with each block of the workload."""


async def apply_later_runs(settings: KafkaSettings, **sections: Any) -> None:
    """Apply the two runs, in a deployment that has a reward service from now on."""
    await write_format(settings, FORMAT, source="/tests", reward_service=True)
    await apply_run(settings, SCORED_BY_PEOPLE, scores="later", **sections)
    await apply_run(settings, JUDGED, reward_function={"name": "judge"}, **sections)


def later_events(block: int) -> tuple[list[Event], list[Event]]:
    """Return what comes before the other events of a block, and what comes after them.

    By their numbers, turns are whole records, or parts that an end follows. Of each turn that people score,
    one score comes before its candidate, the others after all of them, one of these twice.
    """
    first: list[Event] = []
    last: list[Event] = []
    for number in range(block * EXAMPLES, (block + 1) * EXAMPLES):
        first += [_score(number, 0), *_turn(SCORED_BY_PEOPLE, number), *_turn(JUDGED, number)]
        last += [_score(number, index) for index in (1, 1, *range(2, CANDIDATES))]
        if number % 2:
            last += [TTCTurnEnd(**_names(run, number)) for run in (JUDGED, SCORED_BY_PEOPLE)]
    return first, last


def _turn(run: str, number: int) -> Iterator[TTCTurn]:
    members = [
        TTCTurnCandidate(candidate_id=str(index), candidate_index=index, response=f"response {index}")
        for index in range(CANDIDATES)
    ]
    for part in [[member] for member in members] if number % 2 else [members]:
        yield TTCTurn(
            **_names(run, number), prompt=f"prompt {number}", candidates=part, complete=not number % 2
        )


def _score(number: int, index: int) -> TTCScore:
    names = _names(SCORED_BY_PEOPLE, number)
    return TTCScore(**names, candidate_id=str(index), score=index + number / 8, source="ann")


def _names(run: str, number: int) -> dict[str, Any]:
    return {"run_id": run, "example_id": f"example-{number}", "turn_id": "turn"}


@asynccontextmanager
async def reward_service(settings: KafkaSettings) -> AsyncIterator[None]:
    """Answer every request twice while the context is open."""
    async with make_consumer(settings) as consumer, make_producer(settings) as producer:
        topic = settings.topic("ttc.unscored")
        places = [TopicPartition(topic, number) for number in range(await partition_count(settings, topic))]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)

        async def serve() -> None:
            while True:
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    for record in records:
                        await _answer(settings, producer, record)

        serving = asyncio.create_task(serve())
        try:
            yield
        finally:
            serving.cancel()
            with suppress(asyncio.CancelledError):
                await serving


async def _answer(settings: KafkaSettings, producer: AIOKafkaProducer, request: ConsumerRecord) -> None:
    assert header(request, "ce_type") == type_of(ScoreRequest)
    values = json.loads(request.value)
    for at, member in enumerate(values["members"]):
        member["score"] = float(at)
    body = ScoreAnswer.model_validate(values)
    envelope = Envelope(id=body.request_id, type=type_of(body), source="/tests")
    record = event_record("ttc.scores", (body.run_id, body.example_id), body.to_json(), envelope)
    for _ in range(2):
        await producer.send_and_wait(
            settings.topic(record.topic),
            record.value,
            record.key,
            request.partition,
            headers=list(record.headers),
        )
