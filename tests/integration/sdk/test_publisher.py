"""Agents' events on a real broker."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict

import pytest
from aiokafka import ConsumerRecord

from tunestream.config.settings import KafkaSettings
from tunestream.events.cloudevents import Envelope
from tunestream.events.keys import decode_key
from tunestream.events.registry import model_of
from tunestream.events.runs import FORMAT, TURN_FORMAT
from tunestream.events.trajectories import EpisodeItem, EpisodeItemRole
from tunestream.events.ttc import TTCCandidate, TTCTurnEnd
from tunestream.events.turns import TTCTurn
from tunestream.sdk import BlockingTTCPublisher, TTCPublisher, TurnReceipt
from tunestream.sdk.pieces import NotInThisFormat
from tunestream.streams.admin import apply_topics
from tunestream.streams.broker.client import MissingTopic
from tunestream.streams.embedded import EmbeddedKafka
from tunestream.streams.publish import DeliveryError, EncodedRecord, EventProducer, EventTooLarge
from tunestream.streams.reading import RecordReader
from tunestream.streams.runs import write_format


@pytest.fixture
async def settings(kafka_settings: KafkaSettings) -> KafkaSettings:
    await apply_topics(kafka_settings)
    return kafka_settings


async def published(settings: KafkaSettings) -> list[ConsumerRecord]:
    async with RecordReader(settings, "ttc.events", from_beginning=True) as reader:
        return [record async for record in reader.to_end()]


def body(record: ConsumerRecord) -> object:
    model = model_of(Envelope.from_headers(record.headers).type)
    assert model is not None
    return model.model_validate_json(record.value)


async def test_a_turn_is_one_record(settings: KafkaSettings) -> None:
    async with TTCPublisher(settings, policy_version="v1", source="/agent/1") as publisher:
        async with publisher.turn("run", "game", prompt="p", policy_version="v2") as turn:
            sent = [turn.candidate(str(n), score=n) for n in range(4)]
        async with publisher.turn("run", "game", prompt="nothing to add"):
            pass
    (record,) = await published(settings)
    event = body(record)
    assert isinstance(event, TTCTurn)
    assert (event.candidates, event.policy_version, event.complete) == (sent, "v2", True)
    assert decode_key(record.key) == ("run", "game")
    assert turn.receipt == TurnReceipt(
        "run", "game", turn.turn_id, [one.candidate_id for one in sent], record.partition
    )


@pytest.mark.parametrize(("format_", "variable"), [(FORMAT, "stream"), (TURN_FORMAT - 1, None)])
async def test_single_candidates_arrive_in_order_and_in_one_partition(
    settings: KafkaSettings, format_: int, variable: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write_format(settings, format_, source="/tests")
    if variable:
        monkeypatch.setenv("TUNESTREAM_SDK_TURNS", variable)
    async with TTCPublisher(settings, policy_version="v1", source="/agent/1") as publisher:
        async with publisher.turn("run", "game", prompt="p", policy_version="v2") as turn:
            sent = [turn.candidate(str(n), score=n) for n in range(4)]
        await publisher.end_example("run", "game")
    records = await published(settings)
    kinds = [type(body(record)).__name__ for record in records]
    assert kinds == ["TTCCandidate"] * 4 + ["TTCTurnEnd", "TTCExampleEnd"]
    singles = [event for event in map(body, records) if isinstance(event, TTCCandidate)]
    assert [event.candidate_id for event in singles] == [one.candidate_id for one in sent]
    assert {event.policy_version for event in singles} == {"v2"}
    assert turn.receipt is not None
    assert {record.partition for record in records} == {turn.receipt.partition}
    assert len({record.partition for record in records}) == 1
    assert {decode_key(record.key) for record in records} == {("run", "game")}
    assert {Envelope.from_headers(record.headers).source for record in records} == {"/agent/1"}


async def test_the_variable_needs_no_format(settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    await write_format(settings, TURN_FORMAT - 1, source="/tests")
    monkeypatch.setenv("TUNESTREAM_SDK_TURNS", "whole")
    async with TTCPublisher(settings) as publisher, publisher.turn("run", "game", prompt="p") as turn:
        turn.candidate("a", score=None)
    assert [type(body(record)) for record in await published(settings)] == [TTCTurn]


async def test_what_the_format_cannot_hold_is_refused_at_the_call(settings: KafkaSettings) -> None:
    await write_format(settings, TURN_FORMAT - 1, source="/tests")
    async with TTCPublisher(settings) as publisher:
        with pytest.raises(NotInThisFormat, match="tunestream upgrade finish"):
            async with publisher.turn("run", "game", prompt="p") as turn:
                turn.candidate("a", score=None)


async def test_a_turn_that_streams_is_sent_as_it_grows(settings: KafkaSettings) -> None:
    async with TTCPublisher(settings) as publisher:
        with pytest.raises(RuntimeError, match="the model is away"):  # noqa: PT012
            async with publisher.turn("run", "1", prompt="p", stream=True) as turn:
                turn.candidate("a", score=1)
                raise RuntimeError("the model is away")
        async with publisher.turn("run", "2", prompt="p", stream=True) as turn:
            turn.candidate("a", score=1)
            async with asyncio.timeout(90):
                while len(found := await published(settings)) < 2:
                    await publisher.flush()
            assert {type(body(record)) for record in found} == {TTCCandidate}
            turn.candidate("b", score=None)
    bodies = [body(record) for record in await published(settings) if record.key == b"run/2"]
    assert [type(event) for event in bodies] == [TTCCandidate, TTCTurn, TTCTurnEnd]
    assert len([record for record in await published(settings) if record.key == b"run/1"]) == 1


async def test_a_turn_above_the_limit_goes_as_candidates(
    settings: KafkaSettings, caplog: pytest.LogCaptureFixture
) -> None:
    async with TTCPublisher(settings) as publisher:
        async with publisher.turn("run", "game", prompt="p", turn_id="large") as turn:
            for score in (1.0, None):
                turn.candidate("x" * (3 << 20), score=score)
        with pytest.raises(EventTooLarge):  # noqa: PT012
            async with publisher.turn("run", "game", prompt="p") as refused:
                for size in (1, 5 << 20):
                    refused.candidate("x" * size, score=1)
    bodies = [body(record) for record in await published(settings)]
    assert [type(event) for event in bodies] == [TTCCandidate, TTCTurn, TTCTurnEnd]
    assert isinstance(bodies[1], TTCTurn)
    assert not bodies[1].complete
    assert "turn large goes as single candidates, which is not atomic" in caplog.text


async def test_a_score_follows_its_turn(settings: KafkaSettings) -> None:
    async with TTCPublisher(settings) as publisher:
        async with publisher.turn("run", "game", prompt="p", turn_id="t") as turn:
            candidate = turn.candidate("a")
        receipt = TurnReceipt(**json.loads(json.dumps(asdict(turn.receipt))))  # type: ignore[arg-type]
        assert receipt == turn.receipt
        sent = await publisher.score(receipt, candidate.candidate_id, score=0.5, source="ann")
        with pytest.raises(ValueError, match="turn t has no candidate 'another'"):
            await publisher.score(receipt, "another", score=0.5, source="ann")
        ids = TurnReceipt("run", "game", "t")
        assert await publisher.score(ids, candidate.candidate_id, score=0.5, source="ann") == sent
    scores = [record for record in await published(settings) if body(record) == sent]
    everywhere = [record for record in scores if ("ce_tseverywhere", b"1") in record.headers]
    assert sorted(record.partition for record in everywhere) == list(range(settings.partitions))
    (there,) = [record for record in scores if record not in everywhere]
    assert there.partition == receipt.partition
    assert {record.key for record in scores} == {b"run/game"}


async def test_no_score_comes_later_in_an_older_format(settings: KafkaSettings) -> None:
    await write_format(settings, TURN_FORMAT - 1, source="/tests")
    async with TTCPublisher(settings) as publisher:
        with pytest.raises(NotInThisFormat, match="score: "):
            await publisher.score(TurnReceipt("run", "game", "t"), "c", score=0.5, source="ann")


async def test_a_turn_that_raises_publishes_nothing(settings: KafkaSettings) -> None:
    async with TTCPublisher(settings) as publisher:
        with pytest.raises(RuntimeError, match="the model is away"):  # noqa: PT012
            async with publisher.turn("run", "game", prompt="p") as turn:
                turn.candidate("a", score=1)
                raise RuntimeError("the model is away")
    assert await published(settings) == []


async def test_the_end_flushes_even_when_the_agent_fails(settings: KafkaSettings) -> None:
    with pytest.raises(RuntimeError, match="the agent died"):  # noqa: PT012
        async with TTCPublisher(settings) as publisher:
            await publisher.end_example("run", "game")
            raise RuntimeError("the agent died")
    assert len(await published(settings)) == 1


async def test_episodes_and_steps(settings: KafkaSettings) -> None:
    items = [EpisodeItem(role=EpisodeItemRole.USER, content="hello")]
    async with TTCPublisher(settings, policy_version="v1") as publisher:
        episode = await publisher.episode("run", "game", items, reward=1.0)
        await publisher.nat_step("run", "7", b'{"payload":{"event_type":"TTC_END"}}')
    records = await published(settings)
    assert episode.policy_version == "v1"
    assert episode in [body(record) for record in records]
    assert b'{"payload":{"event_type":"TTC_END"}}' in {record.value for record in records}


async def test_many_publish_at_once_through_a_small_buffer(settings: KafkaSettings) -> None:
    async with TTCPublisher(settings, max_in_flight=3) as publisher:

        async def play(game: int) -> None:
            async with publisher.turn("run", str(game), prompt="p") as turn:
                for score in range(5):
                    turn.candidate("a", score=score)

        await asyncio.gather(*(play(game) for game in range(20)))
        async with publisher.turn("run", "streams", prompt="p", stream=True) as turn:
            for score in range(20):
                turn.candidate("a", score=score)
    assert len(await published(settings)) == 20 + 21


async def test_blocking(settings: KafkaSettings) -> None:
    def agent() -> None:
        with BlockingTTCPublisher(settings, policy_version="v1") as publisher:
            with publisher.turn("run", "game", prompt="p", turn_id="t") as turn:
                turn.candidate("a", score=1)
            publisher.policy_version = "v2"
            with publisher.turn("run", "game", prompt="p", expected=2, stream=True) as turn:
                turn.candidate("b", score=1)
            assert turn.receipt is not None
            publisher.score(turn.receipt, turn.candidates[0].candidate_id, score=2, source="ann")
            publisher.end_example("run", "game")
            publisher.flush()

    await asyncio.to_thread(agent)
    bodies = [body(record) for record in await published(settings)]
    assert [type(event).__name__ for event in bodies] == [
        "TTCTurn",
        "TTCCandidate",
        "TTCScore",
        "TTCExampleEnd",
    ]
    assert [bodies[0].policy_version, bodies[1].policy_version] == ["v1", "v2"]  # type: ignore[attr-defined]


async def test_a_missing_topic_is_named_with_the_remedy(kafka_settings: KafkaSettings) -> None:
    with pytest.raises(MissingTopic, match="tunestream topics apply"):
        await TTCPublisher(kafka_settings).__aenter__()


async def test_so_is_one_that_is_missing_when_it_is_written(
    kafka_settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNESTREAM_SDK_TURNS", "whole")
    async with TTCPublisher(kafka_settings) as publisher:
        with pytest.raises(MissingTopic, match="tunestream topics apply"):
            await publisher.end_example("run", "game")


async def test_what_the_broker_refuses_is_raised_once(settings: KafkaSettings) -> None:
    async with EventProducer(settings) as producer:
        await producer.send(EncodedRecord("ttc.events", b"k", b"x" * (5 << 20), []))
        with pytest.raises(DeliveryError, match="1 records were not delivered") as raised:
            await producer.flush()
        assert raised.value.count == 1
        await producer.flush()
        await producer.send(EncodedRecord("ttc.events", b"k", b"small", []))
    assert [record.value for record in await published(settings)] == [b"small"]


async def test_what_was_not_delivered_is_raised_at_the_end(settings: KafkaSettings) -> None:
    with pytest.raises(DeliveryError):
        async with EventProducer(settings) as producer:
            await producer.send(EncodedRecord("ttc.events", b"k", b"x" * (5 << 20), []))


async def test_a_broker_that_stays_away_ends_in_an_error(own_kafka: EmbeddedKafka) -> None:
    settings = KafkaSettings(bootstrap_servers=own_kafka.bootstrap_servers)
    await apply_topics(settings)
    record = EncodedRecord("ttc.events", b"k", b"v", [])
    async with EventProducer(settings, max_in_flight=1) as producer:
        patience = producer._timeout
        await producer.send(record)
        await producer.flush()
        await asyncio.to_thread(own_kafka.kill)
        producer._timeout = 1.0  # while nothing can be delivered
        await producer.send(record)
        with pytest.raises(TimeoutError, match="buffer stayed full"):
            await producer.send(record)
        with pytest.raises(DeliveryError, match="not confirmed"):
            await producer.flush()
        producer._timeout = patience
        await asyncio.to_thread(own_kafka.start)
