"""A bad version that somebody promotes is rolled back by what its turns score."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiokafka import ConsumerRecord

from tests.helpers.log import read_all, read_until
from tests.helpers.runs import apply_run
from tests.helpers.services import ServiceProcess
from tests.helpers.versions import version
from tunestream.config.settings import KafkaSettings
from tunestream.events.base import Wire
from tunestream.events.cloudevents import Envelope
from tunestream.events.live import LiveRecord
from tunestream.events.models import CurrentModel, Evaluation, ModelStatus, ModelVersion
from tunestream.events.registry import type_of
from tunestream.sdk import RunControl, TTCPublisher
from tunestream.streams.admin import apply_topics
from tunestream.streams.publish import EventProducer, event_record

pytestmark = pytest.mark.timeout(600)
TURNS = 40
PATIENCE = 200.0  # seconds for an answer, or for what the services make


async def test_a_forced_bad_promotion_is_rolled_back(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    await apply_topics(kafka_settings)
    await apply_run(
        kafka_settings,
        "run",
        trajectory_builder={"exhaustive_pairs": False},
        # Nothing trains: the rollback needs no batch.
        batching={"window_pairs": 100_000, "max_wait": "1h", "flush_after": "1h"},
        evaluation={"live": {"margin": 0.1, "min_turns": TURNS, "every": "1s"}},
    )
    await _register(kafka_settings)
    async with AsyncExitStack() as stack:
        for name in ("ttc_collector", "pair_builder", "curriculum_gate"):
            await stack.enter_async_context(ServiceProcess(name, kafka_settings, tmp_path))
        calm = {"TUNESTREAM_TRAINER_WARM_START": "false"}
        trainer = await stack.enter_async_context(
            ServiceProcess("trainer", kafka_settings, tmp_path, env=calm)
        )
        await _play(kafka_settings, "good", better=0.9)
        await read_until(kafka_settings, "training.jobs", _scored("good", TURNS), deadline=PATIENCE)
        trainer.kill()
        trainer.start()
        await trainer.ready()

        control = RunControl("run", settings=kafka_settings, timeout=PATIENCE)
        answers = await asyncio.gather(
            *(control.promote("bad", expected_generation=1, force=True) for _ in range(2))
        )
        assert sorted(answer.accepted for answer in answers) == [False, True]
        (told,) = [answer for answer in answers if not answer.accepted]
        assert "the generation is 2, the command expected 1" in told.reason

        await _play(kafka_settings, "bad", better=0.3)
        records = await read_until(kafka_settings, "models", _moved_by("live_scores"), deadline=PATIENCE)
        answer = await control.promote("bad")
        assert not answer.accepted
        assert "rolled back automatically" in answer.reason
        assert 'name="rolled_back_automatically"' in await trainer.metrics()
    versions, pointers = _models(records)
    moves = [(pointer.generation, pointer.version, pointer.cause) for pointer in pointers]
    assert moves == [(1, "good", "training"), (2, "bad", "promote"), (3, "good", "live_scores")]
    assert versions["bad"].status is ModelStatus.RETIRED
    assert f"{TURNS} turns" in (versions["bad"].rolled_back or "")
    assert versions["good"].status is ModelStatus.PROMOTED
    assert await read_all(kafka_settings, "training.batches.dlq") == []


async def _register(settings: KafkaSettings) -> None:
    """Write a promoted version, and a later one that its evaluation rejected."""
    rejected = Evaluation(items=50, difference=-0.2, low=-0.3, high=-0.1, verdict="rejected")
    good, bad = version("good"), version("bad", number=2, parent="good")
    bad = bad.model_copy(update={"status": ModelStatus.REJECTED, "evaluation": rejected})
    pointer = CurrentModel(run_id="run", version="good", generation=1, cause="training")
    written: list[tuple[str, Wire]] = [("good", good), ("bad", bad), ("current", pointer)]
    async with EventProducer(settings) as producer:
        for name, body in written:
            envelope = Envelope(id=name, type=type_of(body), source="/tests", time=1)
            await producer.send(event_record("models", ("run", name), body.to_json(), envelope))


async def _play(settings: KafkaSettings, policy: str, *, better: float) -> None:
    async with TTCPublisher(settings, policy_version=policy) as publisher:
        for number in range(TURNS):
            async with publisher.turn("run", f"{policy}-{number}", prompt=f"{number}?") as turn:
                turn.candidate("a", score=better + number % 5 / 50)
                turn.candidate("b", score=better - 0.2)


def _scored(name: str, turns: int) -> Callable[[list[ConsumerRecord]], bool]:
    def enough(records: list[ConsumerRecord]) -> bool:
        found = [record.value for record in records if record.key == b"run/live"]
        tenures = [one for value in found for one in LiveRecord.model_validate_json(value).tenures]
        return any(
            sum(summary.turns for summary in tenure.summaries) >= turns
            for tenure in tenures
            if tenure.version == name
        )

    return enough


def _models(records: list[ConsumerRecord]) -> tuple[dict[str, ModelVersion], list[CurrentModel]]:
    """Return the latest record of each version, and every pointer."""
    versions: dict[str, ModelVersion] = {}
    pointers = []
    for record in records:
        if record.key == b"run/current":
            pointers.append(CurrentModel.model_validate_json(record.value))
        else:
            found = ModelVersion.model_validate_json(record.value)
            versions[found.version] = found
    return versions, pointers


def _moved_by(cause: str) -> Callable[[list[ConsumerRecord]], bool]:
    return lambda records: any(pointer.cause == cause for pointer in _models(records)[1])
