"""Whatever is sent: it ends in the dead letters with its reason, and its neighbours go on."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from uuid import uuid4

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer, ConsumerRecord
from aiokafka.structs import RecordMetadata
from typer.testing import CliRunner, Result

from tests.helpers.audit import until_handled
from tests.helpers.bad_records import (
    EPISODE_RUN,
    KINDS,
    RUN,
    SMALL_RUN,
    STEP,
    UNKNOWN_RUN,
    Kind,
    Raw,
    candidate,
    headers,
    native,
)
from tests.helpers.groups import GROUP_TYPES, AnyGroup, read_group
from tests.helpers.log import header, read_all, read_until
from tests.helpers.runs import apply_run
from tests.helpers.services import ServiceProcess
from tunestream.cli import app
from tunestream.config.settings import KafkaSettings
from tunestream.events.keys import encode_key
from tunestream.events.trajectories import DPOItem
from tunestream.streams.admin import apply_topics
from tunestream.streams.broker.client import make_producer
from tunestream.streams.letters.dead_letters import (
    DLQ_MESSAGE,
    DLQ_OFFSET,
    DLQ_PARTITION,
    DLQ_REASON,
    DLQ_SERVICE,
    DLQ_TOPIC,
    DLQ_VERSION,
    why_final,
)
from tunestream.streams.tasks.encoding import partition_for

Place = tuple[int, int]
NEIGHBOUR = "neighbour"
DLQ_HEADERS = {
    DLQ_MESSAGE,
    DLQ_OFFSET,
    DLQ_PARTITION,
    DLQ_REASON,
    DLQ_SERVICE,
    DLQ_TOPIC,
    DLQ_VERSION,
}
# Turns that have to be closed before what comes next is refused.
CLOSED_BEFORE = sum(len(kind.before) for kind in KINDS if kind.closes)


def _one(name: str, **fields: object) -> dict[str, object]:
    return candidate(name, expected_candidates=1, **fields)


# Strange, but not wrong: they count.
ODD = {
    name: native(_one(name) | fields, **changed)
    for name, fields, changed in (
        ("null traceparent", {}, {"traceparent": None}),
        ("tracestate of 3 MiB", {}, {"tracestate": b"x" * (3 << 20)}),
        ("traceparent is not UTF-8", {}, {"traceparent": b"\xff"}),
        ("a clock of the year 9999", {}, {"ce_time": b"9999-12-31T23:59:59Z"}),
        ("a clock of the year 1970", {}, {"ce_time": b"1970-01-01T00:00:00Z"}),
        ("a replay's time where nothing is replayed", {}, {"ce_tslogtime": b"253402300799000"}),
        ("a replay's time that is no number", {}, {"ce_tslogtime": b"9" * 5_000}),
        ("an earlier release's replay", {}, {"ce_tsoriginaltime": b"soon"}),
        ("control characters", {"response": "\0\n\t\U0001f600 ::/%"}, {}),
        ("our own extensions", {}, {"ce_tsdigest": b"0", "ce_tsorigin": b"9/9"}),
        ("number with 4,300 digits", {"metadata": {"n": 10**4299}}, {}),
        ("empty prompt", {"prompt": []}, {}),
        ("negative index", {"candidate_index": -1}, {}),
    )
}
TWICE = "a header twice"
ODD[TWICE] = Raw(encode_key(RUN, TWICE), json.dumps(_one(TWICE)).encode(), (*headers(), ("ce_id", b"2")))


Turn = tuple[str, str, str]  # run, example, turn


@dataclass(frozen=True)
class Outcome:
    """What became of everything, by kind or by turn."""

    kafka: KafkaSettings
    sent: dict[str, Place]
    letters: dict[Place, list[ConsumerRecord]]
    log: dict[tuple[str, int, int], ConsumerRecord]
    groups: dict[Turn, list[AnyGroup]]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def outcome(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Outcome]:
    """Send everything in one go through a collector and a pair builder that stay up for the module."""
    settings = KafkaSettings(bootstrap_servers=kafka, topic_prefix=f"t{uuid4().hex[:10]}.")
    folder = tmp_path_factory.mktemp("bad-input")
    await _apply(settings)
    async with make_producer(settings) as producer:
        sent = await _publish(producer, settings)
    async with (
        ServiceProcess("ttc_collector", settings, folder),
        ServiceProcess("pair_builder", settings, folder),
    ):
        groups = await read_until(settings, "trajectories", _all_closed)
        yield Outcome(settings, sent, await _letters(settings), await _log(settings), _by_turn(groups))


def _all_closed(records: Sequence[ConsumerRecord]) -> bool:
    return len(_by_turn(records)) == len(KINDS) + 2 * len(ODD) + CLOSED_BEFORE


async def _letters(settings: KafkaSettings) -> dict[Place, list[ConsumerRecord]]:
    """Return the dead letters by where in `ttc.events` the refused record began."""
    found: dict[Place, list[ConsumerRecord]] = defaultdict(list)
    for letter in await read_all(settings, "ttc.events.dlq"):
        found[int(header(letter, DLQ_PARTITION) or ""), int(header(letter, DLQ_OFFSET) or "")].append(letter)
    for letter in await read_all(settings, "ttc.candidates.dlq"):
        partition, offset = (header(letter, "ce_tsorigin") or "").split("/")
        found[int(partition), int(offset)].append(letter)
    return found


async def _log(settings: KafkaSettings) -> dict[tuple[str, int, int], ConsumerRecord]:
    names = ("ttc.events", "ttc.candidates")
    records = [record for name in names for record in await read_all(settings, name)]
    return {(record.topic, record.partition, record.offset): record for record in records}


async def _apply(settings: KafkaSettings) -> None:
    await apply_topics(settings)
    await apply_run(settings, RUN, trajectory_builder=_pairs())
    await apply_run(settings, SMALL_RUN, trajectory_builder=_pairs(max_candidates_per_turn=2))
    await apply_run(
        settings,
        EPISODE_RUN,
        trajectory_builder={"_type": "openpipe_art_traj_builder", "num_generations": 8},
        trainer={
            "_type": "openpipe_art_trainer_adapter",
            "backend": {"ip": "localhost", "port": 1, "name": "n", "project": "p", "base_model": "b"},
        },
    )


def _pairs(**changed: object) -> dict[str, object]:
    return {"_type": "dpo_traj_builder", "ttc_step_name": STEP, "turn_timeout": "1h"} | changed


async def _publish(producer: AIOKafkaProducer, settings: KafkaSettings) -> dict[str, Place]:
    """Send each kind between two candidates of a good turn, in one partition, as fast as it goes."""
    count = len(await producer.partitions_for(settings.topic("ttc.events")))
    deliveries = {}
    for name, records in [(kind.name, (*kind.before, kind.record)) for kind in KINDS] + [
        (name, (record,)) for name, record in ODD.items()
    ]:
        first, last = (_neighbour(name, number) for number in "12")
        assert first.key is not None
        place = partition_for(first.key, count)
        for record in (first, *records, last):
            delivery = await _send(producer, settings.topic("ttc.events"), place, record)
            if record is records[-1]:
                deliveries[name] = delivery
    return {name: ((sent := await delivery).partition, sent.offset) for name, delivery in deliveries.items()}


async def _send(
    producer: AIOKafkaProducer, topic: str, place: int, record: Raw
) -> asyncio.Future[RecordMetadata]:
    batch = producer.create_batch()  # `send` would refuse a record with neither key nor body
    batch.append(timestamp=None, key=record.key, value=record.value, headers=[*record.headers])
    sent: asyncio.Future[RecordMetadata] = await producer.send_batch(batch, topic, partition=place)
    return sent


def _neighbour(name: str, number: str) -> Raw:
    body = candidate(name, turn_id=NEIGHBOUR, candidate_id=number, response=number, score=int(number))
    return native(body | {"expected_candidates": 2})


def _by_turn(records: Sequence[ConsumerRecord]) -> dict[Turn, list[AnyGroup]]:
    found: dict[Turn, list[AnyGroup]] = {}
    for record in records:
        if header(record, "ce_type") in GROUP_TYPES:
            group = read_group(record.value)
            found.setdefault((group.run_id, group.example_id, group.turn_id), []).append(group)
    return found


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_it_ends_in_the_dead_letters_with_its_reason_and_its_bytes(outcome: Outcome, kind: Kind) -> None:
    (letter,) = outcome.letters[outcome.sent[kind.name]]

    assert header(letter, DLQ_REASON) == kind.code, header(letter, DLQ_MESSAGE)
    assert header(letter, DLQ_TOPIC) == outcome.kafka.topic(kind.refused_by)
    source = outcome.log[_source(letter)]
    assert (letter.key, letter.value) == (source.key, source.value)
    assert letter.headers[: len(source.headers)] == source.headers
    assert {name for name, _ in letter.headers[len(source.headers) :]} == DLQ_HEADERS
    if kind.refused_by == "ttc.events":
        assert (source.key, source.value, source.headers) == (
            kind.record.key,
            kind.record.value,
            kind.record.headers,
        )


def _source(letter: ConsumerRecord) -> tuple[str, int, int]:
    topic, partition, offset = (header(letter, name) or "" for name in (DLQ_TOPIC, DLQ_PARTITION, DLQ_OFFSET))
    return topic, int(partition), int(offset)


def test_nothing_else_is_refused(outcome: Outcome) -> None:
    assert set(outcome.letters) == {outcome.sent[kind.name] for kind in KINDS}


@pytest.mark.parametrize("name", [*(kind.name for kind in KINDS), *ODD])
def test_its_neighbours_are_unharmed(outcome: Outcome, name: str) -> None:
    (group,) = outcome.groups[RUN, name, NEIGHBOUR]

    (trajectory,) = group.trajectories
    (item,) = trajectory.episode
    assert isinstance(item, DPOItem)
    assert (item.chosen_response, item.rejected_response) == ("2", "1")


@pytest.mark.parametrize("name", ODD)
def test_what_is_only_strange_counts(outcome: Outcome, name: str) -> None:
    (group,) = outcome.groups[RUN, name, "t"]

    assert len(group.scores) == 1


async def test_what_was_mended_is_replayed_and_counts_once(outcome: Outcome) -> None:
    refused = len(await read_all(outcome.kafka, "ttc.events.dlq"))
    await apply_run(outcome.kafka, UNKNOWN_RUN, trajectory_builder=_pairs())
    for due in (1, 0):
        done = await _dlq(outcome.kafka, "replay", "--reason", "unknown_run", "--run", UNKNOWN_RUN, "--json")
        assert len(json.loads(done.stdout)["replayed"]) == due
    await until_handled(outcome.kafka, "ttc-collector", "ttc.events")
    await until_handled(outcome.kafka, "pair-builder", "ttc.candidates")

    groups = _by_turn(await read_all(outcome.kafka, "trajectories"))
    (group,) = groups[UNKNOWN_RUN, "unknown run", "t"]
    assert len(group.scores) == 1
    assert len(await read_all(outcome.kafka, "ttc.events.dlq")) == refused


async def test_what_is_newer_is_sent_again_and_waits_for_an_upgrade(outcome: Outcome) -> None:
    """Until then each replay comes back with the same reason and the same bytes."""
    before = await _newer(outcome.kafka)
    done = await _dlq(outcome.kafka, "replay", "--reason", "newer_type", "--json")
    assert len(json.loads(done.stdout)["replayed"]) == len(before) > 0
    await until_handled(outcome.kafka, "ttc-collector", "ttc.events")

    after = await _newer(outcome.kafka)
    assert after[: len(before)] == before
    assert sorted(after[len(before) :]) == sorted(before)
    assert {header for _, _, header in after} == {"tunestream.ttc.candidate.v2", "nat.intermediate_step.v10"}


async def _newer(settings: KafkaSettings) -> list[tuple[bytes, bytes, str]]:
    """Return key, value and type of what was refused as newer, in order of arrival."""
    letters = await read_all(settings, "ttc.events.dlq")
    newer = [letter for letter in letters if header(letter, DLQ_REASON) == "newer_type"]
    newer.sort(key=lambda letter: letter.timestamp)
    return [(letter.key, letter.value, header(letter, "ce_type") or "") for letter in newer]


@pytest.mark.parametrize("code", sorted({kind.code for kind in KINDS if why_final(kind.code)}))
async def test_what_is_final_is_not_replayed(outcome: Outcome, code: str) -> None:
    done = await _dlq(outcome.kafka, "replay", "--reason", code)

    assert done.exit_code == 1
    assert f"is final ({code})" in " ".join(done.stderr.split())


async def _dlq(kafka: KafkaSettings, *arguments: str) -> Result:
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "TUNESTREAM_KAFKA_TOPIC_PREFIX": kafka.topic_prefix,
    }
    return await asyncio.to_thread(CliRunner().invoke, app, ["dlq", *arguments], env=environment)
