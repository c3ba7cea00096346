"""The handlers of the light services, record by record: what they emit, refuse and store."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
import pytest
from pydantic import ValidationError

from tests.helpers.inbound import KnownRuns, inbound
from tests.helpers.strategies import install_strategy
from tests.unit.domain.gate.test_core import WINDOW, configuration, group
from tunestream.artifacts import ArtifactStore
from tunestream.config.run.curriculum import strategy_section
from tunestream.config.run.run import RunConfig
from tunestream.domain.collector.core import Collector
from tunestream.domain.effects import Effects, Outbound, Refused
from tunestream.domain.gate.core import CurriculumGate
from tunestream.domain.turns.core import PairBuilder
from tunestream.domain.turns.group_rules import GroupRules
from tunestream.events.groups import PreferenceGroup
from tunestream.events.keys import encode_key
from tunestream.events.nat import IntermediateStep
from tunestream.events.training import TrainingBatch
from tunestream.events.trajectories import TrajectoryGroup, TrajectoryGroupRef
from tunestream.events.ttc import CandidateStep, Tick, TTCCandidate, TurnEnd
from tunestream.streams.tasks.encoding import partition_for
from tunestream.streams.tasks.handler import Handler, Inbound, TaskContext
from tunestream_services.curriculum_gate.handler import GateHandler
from tunestream_services.pair_builder.handler import PairBuilderHandler
from tunestream_services.ttc_collector.broker_clock import BrokerClock
from tunestream_services.ttc_collector.handler import CollectorHandler
from tunestream_services.ttc_collector.metrics import PARTITIONERS
from tunestream_services.ttc_collector.partitioners import partitioner_of
from tunestream_services.ttc_collector.settings import CollectorSettings

KEY = encode_key("r", "e")
CANDIDATE = TTCCandidate(
    run_id="r", example_id="e", turn_id="t", candidate_id="c", prompt="p", response="a", score=0.5
)
RUN = configuration()


async def handled(handler: Handler, *records: Inbound) -> list[Outbound]:
    effects = Effects()
    await handler.prepare(records, 0.0)
    for record in records:
        handler.handle(record, effects)
    await handler.complete(effects)
    return effects.outbound


def collector(*configs: RunConfig) -> CollectorHandler:
    return CollectorHandler(Collector(3), KnownRuns(*configs))


async def test_the_collector_writes_where_a_candidate_came_from_and_its_configuration() -> None:
    (output,) = await handled(collector(RUN), inbound(CANDIDATE, KEY, offset=7))
    assert isinstance(output.body, CandidateStep)
    assert output.key == ("r", "e")
    assert output.extensions == {"tsdigest": RUN.digest, "tsorigin": "3/7"}


@pytest.mark.parametrize("ce_time", [None, 1, 1_000_000_000_000_000], ids=["none", "past", "ahead"])
async def test_no_agents_clock_decides_anything(ce_time: int | None) -> None:
    (output,) = await handled(collector(RUN), inbound(CANDIDATE, KEY, ce_time=ce_time, time=5_000))
    assert output.time == 5_000


@pytest.mark.parametrize(
    ("replay", "written", "expected"),
    [(True, "2000", 2_000), (True, "9000", 5_000), (False, "2000", 5_000), (True, "yesterday", 5_000)],
    ids=["replay", "from the future", "not a replay", "no time"],
)
async def test_a_replay_takes_the_brokers_first_time_and_nobody_else_does(
    replay: bool, written: str, expected: int
) -> None:
    handler = CollectorHandler(Collector(3, replay=replay), KnownRuns(RUN), replay=replay)
    effects = Effects()
    record = inbound(CANDIDATE, KEY, time=5_000, tslogtime=written)
    await handler.prepare([record], 0.0)
    handler.handle(record, effects)
    assert effects.outbound[0].time == expected
    assert effects.counts["log_time_ignored"] == (expected == 5_000 and written != "9000")


async def test_a_busy_partition_of_refused_events_carries_time_on() -> None:
    """Were there nothing, a quiet run's turn on it would wait for ever."""
    handler, effects = collector(RUN), Effects()
    first = inbound(CANDIDATE, KEY, time=1_000)
    unknown = CANDIDATE.model_copy(update={"run_id": "x"})
    refused = [inbound(unknown, encode_key("x", "e"), time=1_000 + 200 * at) for at in range(1, 11)]
    await handler.prepare([first, *refused], 0.0)
    handler.handle(first, effects)
    for record in refused:
        with pytest.raises(Refused, match="unknown_run"):
            handler.handle(record, effects)
    assert [(type(output.body), output.time) for output in effects.outbound[1:]] == [
        (Tick, 2_000),
        (Tick, 3_000),
    ]


async def test_a_busy_partition_of_events_that_cannot_be_read_carries_time_on() -> None:
    handler, effects = collector(RUN), Effects()
    await handler.prepare([], 0.0)
    for at in range(11):
        handler.pass_over(1_000_000 + 200 * at, effects)
    handler.pass_over(None, effects)
    assert [(type(one.body), one.time) for one in effects.outbound] == [
        (Tick, 1_000_000),
        (Tick, 1_001_000),
        (Tick, 1_002_000),
    ]


async def test_a_topic_without_the_brokers_time_is_a_reason_until_it_is_mended() -> None:
    handler = collector(RUN)
    await handler.prepare([msgspec.structs.replace(inbound(CANDIDATE, KEY), by_broker=False)], 0.0)
    (reason,) = handler.reasons()
    assert "ttc.events" in reason
    assert "topics apply" in reason
    await handler.prepare([inbound(CANDIDATE, KEY)], 0.0)
    assert handler.reasons() == []


NOW = 1_800_000_000_000


def seen(clock: BrokerClock, time: int, now: float = 0.0) -> list[str]:
    clock.compare([inbound(CANDIDATE, KEY, time=time)], now, NOW)
    return clock.warnings()


def test_a_broker_that_is_far_ahead_is_a_note() -> None:
    clock = BrokerClock()
    assert seen(clock, NOW + 60_000) == []
    (line,) = seen(clock, NOW + 61_000)
    assert "61 s ahead of" in line
    assert seen(clock, NOW - 500_000) == [line], "this may be an old record"
    assert seen(clock, NOW) == []


def test_a_broker_that_is_far_behind_is_a_note_and_a_backlog_is_not() -> None:
    clock = BrokerClock()
    assert seen(clock, NOW - 500_000) == []
    clock.caught_up(100.0)
    assert seen(clock, NOW - 500_000, 600.0) == [], "it may have been there since"
    clock.caught_up(700.0)
    (line,) = seen(clock, NOW - 500_000, 702.0)
    assert "500 s behind" in line


@pytest.mark.parametrize(("partition", "name"), [(0, "crc32"), (2, "murmur2"), (1, "other"), (3, "other")])
def test_the_partitioner_of_an_event_is_seen_by_its_partition(partition: int, name: str) -> None:
    keys = (encode_key("r", f"e{at}") for at in range(1_000))
    key = next(key for key in keys if (partition_for(key, 4), crc32(key) % 4) == (2, 0))
    assert partitioner_of(key, partition, 4) == name


async def test_an_event_counts_for_its_partitioner_once_it_is_committed() -> None:
    """A transaction that is given up takes its handler with it, and a new one handles the event again."""
    run = RUN.model_copy(update={"run_id": "counted-run"})
    event = CANDIDATE.model_copy(update={"run_id": "counted-run"})
    record = inbound(event, encode_key("counted-run", "e"))
    number = partition_for(record.key or b"", 4)

    def counted() -> float:
        return float(PARTITIONERS.labels("counted-run", "murmur2")._value.get())

    for _ in range(2):
        handler = CollectorHandler(Collector(number), KnownRuns(run))
        await handler.start(TaskContext(number, _no_transactions, 4))
        await handled(handler, msgspec.structs.replace(record, partition=number))
        assert counted() == 0
    handler.committed()
    handler.committed()
    assert counted() == 1


def test_a_partition_that_all_choose_shows_no_partitioner() -> None:
    assert partitioner_of(KEY, 0, 1) is None


@pytest.mark.parametrize("written", ["-1", "two", "9" * 11, "²"])
async def test_a_group_from_no_partition_is_refused(tmp_path: Path, written: str) -> None:
    runs = KnownRuns(RUN)
    handler = GateHandler(CurriculumGate(runs.config), runs, ArtifactStore(str(tmp_path)), deadline=10.0)
    with pytest.raises(Refused, match="ce_tspartition"):
        await handled(handler, inbound(group("g", 1, RUN.digest), b"r", tspartition=written))


def test_a_replay_needs_topics_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESTREAM_COLLECTOR_REPLAY", "true")
    monkeypatch.delenv("TUNESTREAM_KAFKA_TOPIC_PREFIX", raising=False)
    with pytest.raises(ValidationError, match="TOPIC_PREFIX"):
        CollectorSettings()
    monkeypatch.setenv("TUNESTREAM_KAFKA_TOPIC_PREFIX", "again.")
    assert CollectorSettings().replay


STEP = IntermediateStep.model_validate({"payload": {"event_type": "WORKFLOW_END", "UUID": "u"}})


@pytest.mark.parametrize(
    ("record", "code"),
    [
        (inbound(CANDIDATE.model_copy(update={"run_id": "x"}), encode_key("x", "e")), "unknown_run"),
        (inbound(CANDIDATE, encode_key("r", "other")), "wrong_key"),
        (inbound(STEP, KEY, tsrun="r"), "schema.missing"),
        (inbound(STEP, KEY, tsrun="r", tsexample="e" * 513), "schema.bounds"),
    ],
    ids=["run", "key", "no example", "long example"],
)
async def test_the_collector_refuses_with_a_code(record: Inbound, code: str) -> None:
    with pytest.raises(Refused) as refused:
        await handled(collector(RUN), record)
    assert refused.value.code == code


async def test_an_unknown_run_is_looked_up_once_more_before_it_is_refused() -> None:
    runs = KnownRuns()
    with pytest.raises(Refused, match="unknown_run"):
        await handled(CollectorHandler(Collector(3), runs), inbound(CANDIDATE, KEY))
    assert runs.refreshes == 1


def _handlers(runs: KnownRuns, folder: Path) -> dict[str, tuple[Handler, Inbound]]:
    """Return each light service's handler, and a record of run r for it."""
    store = ArtifactStore(str(folder))
    builder = PairBuilder(lambda run, digest: GroupRules.of(runs.config(run, digest).trajectory_builder))
    return {
        "collector": (CollectorHandler(Collector(3), runs), inbound(CANDIDATE, KEY)),
        "pair builder": (
            PairBuilderHandler(builder, runs, store, 1_000_000),
            inbound(STEPS[0], KEY, tsdigest=RUN.digest),
        ),
        "gate": (
            GateHandler(CurriculumGate(runs.config), runs, store, deadline=10.0),
            inbound(group("g", 1, RUN.digest), b"r"),
        ),
    }


@pytest.mark.parametrize("service", ["collector", "pair builder", "gate"])
async def test_a_run_that_nobody_knows_costs_one_look_up_a_transaction(tmp_path: Path, service: str) -> None:
    """However many of its records there are: a transaction of 20,000 of them has 625 rounds."""
    runs = KnownRuns()
    handler, record = _handlers(runs, tmp_path)[service]
    began = time.monotonic()
    for _ in range(625):
        await handler.prepare([record] * 32, began)
    assert runs.refreshes == 1
    await handler.prepare([record], time.monotonic())
    assert runs.refreshes == 2


@pytest.mark.parametrize("service", ["pair builder", "gate"])
async def test_a_configuration_that_cannot_be_read_refuses_its_records_alone(
    tmp_path: Path, service: str
) -> None:
    handler, record = _handlers(KnownRuns(), tmp_path)[service]
    with pytest.raises(Refused) as refused:
        await handled(handler, record)
    assert refused.value.code == "unknown_run"


async def test_a_flood_of_refused_candidates_closes_a_quiet_turn_beside_it(tmp_path: Path) -> None:
    """The collector knows their run, so it sends no ticks between them."""
    handler = _handlers(KnownRuns(RUN), tmp_path)["pair builder"][0]
    await handled(handler, inbound(STEPS[0], KEY, tsdigest=RUN.digest))
    effects = Effects()
    for at in range(90):
        record = inbound(STEPS[1], KEY, ce_time=1_000 + 1_000 * at, tsdigest="unreadable")
        await handler.prepare([record], 0.0)
        with pytest.raises(Refused, match="unknown_run"):
            handler.handle(record, effects)
    assert effects.counts["closed_timeout"] == 1
    assert sum(isinstance(output.body, Tick) for output in effects.outbound) == 89


async def test_state_that_waits_does_not_slow_the_records_of_others(tmp_path: Path) -> None:
    """Each record asks whether state of its example waits; that must not walk through all of it."""
    handler = _handlers(KnownRuns(RUN), tmp_path)["pair builder"][0]
    keys = [encode_key("c", "r", f"x{at}", "=t", "unreadable") + b"/0/1000" for at in range(2_000)]
    walked = [_Watched(key) for key in keys]
    for key in walked:
        handler.restore(key, b"{}")
    before = sum(key.asked for key in walked)
    await handled(handler, inbound(STEPS[0], KEY, tsdigest=RUN.digest))
    assert sum(key.asked for key in walked) == before


class _Watched(bytes):
    """A key that counts who compares its beginning."""

    asked = 0

    def startswith(self, *args: Any) -> bool:
        self.asked += 1
        return super().startswith(*args)


async def test_an_open_turn_waits_for_a_configuration_that_cannot_be_read(tmp_path: Path) -> None:
    runs = KnownRuns(RUN)
    records = [inbound(body, KEY, tsdigest=RUN.digest) for body in STEPS]
    state = await _state(_handlers(runs, tmp_path)["pair builder"][0], *records[:2])
    runs.apply(other := configuration(batching={"window_pairs": 7}))

    handler = _handlers(runs, tmp_path)["pair builder"][0]
    for key, value in state.items():
        handler.restore(key, value)
    assert handler.gauges()["parked_records"] == 1, "candidates of a turn that came together"
    (warning,) = handler.warnings()
    assert RUN.digest in warning
    assert "run apply" in warning
    # Another run, and another example of the same run, go on; the turn's own example waits.
    elsewhere = STEPS[0].model_copy(update={"example_id": "f"})
    await handled(handler, inbound(elsewhere, encode_key("r", "f"), tsdigest=other.digest))
    for config_digest in (RUN.digest, other.digest):
        with pytest.raises(Refused, match="unknown_run"):
            await handled(handler, inbound(STEPS[2], KEY, tsdigest=config_digest))

    runs.apply(RUN, other)
    end = TurnEnd(run_id="r", example_id="e", turn_id="t")
    (output,) = await handled(handler, records[2], inbound(end, KEY, tsdigest=RUN.digest))
    assert len(PreferenceGroup.model_validate_json(output.encoded()).trajectories) == 3
    assert handler.warnings() == []


async def test_a_window_waits_for_a_configuration_that_cannot_be_read(tmp_path: Path) -> None:
    runs = KnownRuns(RUN)
    groups = [inbound(group(f"g{at}", 1, RUN.digest), b"r") for at in range(WINDOW)]
    state = await _state(_handlers(runs, tmp_path)["gate"][0], *groups[:-1])
    runs.apply()

    handler = _handlers(runs, tmp_path)["gate"][0]
    for key, value in state.items():
        handler.restore(key, value)
    await handler.start(TaskContext(3, _no_transactions))
    assert handler.gauges()["parked_records"] == WINDOW - 1
    assert RUN.digest in handler.warnings()[0]

    runs.apply(RUN)
    (output,) = await handled(handler, groups[-1])
    assert isinstance(output.body, TrainingBatch)
    assert handler.warnings() == []


async def _state(handler: Handler, *records: Inbound) -> dict[bytes, bytes]:
    """Return what the changelog holds after records."""
    effects = Effects()
    await handler.prepare(records, 0.0)
    for record in records:
        handler.handle(record, effects)
    await handler.complete(effects)
    return {key: value for key, value in effects.changes.items() if value is not None}


async def _no_transactions(apply: object) -> None:
    raise AssertionError(f"{apply} was not expected")


STEPS = [
    CandidateStep(
        run_id="r",
        example_id="e",
        turn_id="t",
        candidate_id=str(at),
        candidate_index=at,
        prompt="p" * 100,
        response=str(at),
        score=at,
    )
    for at in range(3)
]


def pair_builder(store: ArtifactStore, largest: int) -> PairBuilderHandler:
    rules = PairBuilder(lambda _run, _digest: GroupRules.of(RUN.trajectory_builder))
    return PairBuilderHandler(rules, KnownRuns(RUN), store, largest)


def objects(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def turn(store: ArtifactStore, largest: int) -> Outbound:
    end = TurnEnd(run_id="r", example_id="e", turn_id="t")
    records = [inbound(body, KEY, tsdigest=RUN.digest) for body in (*STEPS, end)]
    tick, output = await handled(pair_builder(store, largest), *records)
    assert isinstance(tick.body, Tick)
    return output


async def test_a_large_group_goes_to_the_artifact_store_and_its_record_names_it(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    small = await turn(store, largest=1_000_000)
    assert small.type == "tunestream.trajectory_group.v2"
    assert not objects(tmp_path)
    large = await turn(store, largest=100)
    assert isinstance(large.body, TrajectoryGroupRef)
    assert store.get_bytes(large.body.uri, large.body.sha256) == small.encoded()


@pytest.mark.parametrize(("missing", "said"), [("ce_time", "ce_time"), ("tsdigest", "ce_tsdigest")])
async def test_a_candidate_that_the_collector_did_not_stamp_is_refused(
    tmp_path: Path, missing: str, said: str
) -> None:
    stamps: dict[str, Any] = {"ce_time": 1, "tsdigest": RUN.digest}
    stamps[missing] = None if missing == "ce_time" else ""
    with pytest.raises(Refused, match=f"header {said} is missing"):
        await handled(pair_builder(ArtifactStore(str(tmp_path)), 1), inbound(STEPS[0], KEY, **stamps))


def window(config: RunConfig, store: ArtifactStore, *, by_reference: bool = False) -> list[Inbound]:
    records = []
    for at in range(WINDOW):
        body: TrajectoryGroup | TrajectoryGroupRef = group(f"g{at}", 1, config.digest)
        if by_reference:
            stored = store.put_bytes(body.to_json())
            body = TrajectoryGroupRef(
                run_id="r", group_id=f"g{at}", uri=stored.uri, sha256=stored.sha256, size=stored.size
            )
        records.append(inbound(body, b"r"))
    return records


async def batches(config: RunConfig, folder: Path, *, windows: int = 1, **how: bool) -> list[TrainingBatch]:
    store, runs = ArtifactStore(str(folder)), KnownRuns(config)
    handler = GateHandler(CurriculumGate(runs.config), runs, store, deadline=10.0)
    found = []
    for _ in range(windows):
        for output in await handled(handler, *window(config, store, **how)):
            assert isinstance(output.body, TrainingBatch)
            found.append(output.body)
    return found


async def test_a_group_by_reference_is_the_group_itself(tmp_path: Path) -> None:
    assert await batches(RUN, tmp_path) == await batches(RUN, tmp_path, by_reference=True)


async def test_the_state_of_a_strategy_is_part_of_the_batchs_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two strategies that select the same, and remember something else, make two batches."""
    path = install_strategy(tmp_path / "site", "broken", "tests.helpers.strategies:BROKEN")
    monkeypatch.syspath_prepend(path)

    async def batch(characters: int) -> TrainingBatch:
        settings = {"_type": "broken", "enabled": True, "chosen": [0, 1], "characters": characters}
        section = strategy_section("broken").model_validate(settings)
        config = configuration(curriculum_learning=section)
        monkeypatch.setattr(RunConfig, "digest", "d")  # so that nothing but the state differs
        (made,) = await batches(config, tmp_path / "store")
        return made

    one, same, other = await batch(1), await batch(1), await batch(2)
    assert one == same
    assert (one.train, one.curriculum) == (other.train, other.curriculum)
    assert one.batch_id != other.batch_id
