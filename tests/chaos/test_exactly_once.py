"""Whatever dies, and however often: every event counts once."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiokafka import ConsumerRecord

from tests.helpers.agents import QUIET, more_turns, publish_by_agents, quiet_turns
from tests.helpers.audit import bodies_by_turn, lateness, origins, until_handled
from tests.helpers.chaos import DISTURBANCES, Cluster, crash, freeze, restart
from tests.helpers.faults import candidate_of, open_transaction
from tests.helpers.later_scores import LATER_TURNS, apply_later_runs, reward_service
from tests.helpers.log import DEADLINE, header, read_all, read_until
from tests.helpers.runs import apply_run
from tests.helpers.workload import CANDIDATES, PAIRS, RUNS
from tunestream.artifacts import ArtifactStore, read_rows
from tunestream.config.settings import KafkaSettings
from tunestream.events.dataset import PreferenceRow
from tunestream.events.groups import PreferenceGroup
from tunestream.events.registry import type_of
from tunestream.events.training import TrainingBatch
from tunestream.streams.admin import apply_topics
from tunestream.streams.embedded import EmbeddedKafka
from tunestream.streams.letters.dead_letters import DLQ_REASON

SERVICES = ("ttc_collector", "pair_builder", "curriculum_gate")
WINDOW_TURNS = 50
# A multiple of the runs' windows; published in about the time that a round takes.
TURNS_PER_ROUND = 400
BUILDER = {"turn_timeout": "1h", "exhaustive_pairs": True, "max_pairs_per_turn": None}
QUIET_SECONDS = 3
QUIET_BUILDER = BUILDER | {"turn_timeout": f"{QUIET_SECONDS}s"}
BATCHING = {
    "window_pairs": WINDOW_TURNS * PAIRS,
    "min_batch_pairs": 1,
    "max_wait": "1h",
    "flush_after": "1h",
    "validation_fraction": 0.1,
}
Chaos = Callable[[Cluster, EmbeddedKafka], Awaitable[None]]


async def _a_few_of_each(cluster: Cluster, broker: EmbeddedKafka) -> None:
    replicas = cluster.replicas
    frozen = asyncio.create_task(freeze(replicas["pair_builder", 1]))
    await crash(replicas["ttc_collector", 0])
    await crash(replicas["pair_builder", 0])
    await restart(replicas["curriculum_gate", 0])
    await frozen
    frozen = asyncio.create_task(freeze(replicas["ttc_collector", 1]))
    await crash(replicas["curriculum_gate", 1])
    await asyncio.to_thread(broker.restart)
    await frozen
    await restart(replicas["pair_builder", 1])
    await asyncio.gather(crash(replicas["ttc_collector", 1]), crash(replicas["pair_builder", 1]))


async def test_every_turn_is_closed_once_whatever_dies(own_kafka: EmbeddedKafka, tmp_path: Path) -> None:
    await _compare(own_kafka, tmp_path, turns=1200, pause=0.22, chaos=_a_few_of_each)


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_every_turn_is_closed_once_in_many_random_rounds(
    own_kafka: EmbeddedKafka, tmp_path: Path
) -> None:
    seed = int(os.environ.get("SOAK_SEED", random.randrange(1 << 32)))
    count = int(os.environ.get("SOAK_ROUNDS", "60"))
    print(f"SOAK_SEED={seed} SOAK_ROUNDS={count}")
    dice = random.Random(seed)

    async def rounds(cluster: Cluster, broker: EmbeddedKafka) -> None:
        for number in range(count):
            victims = dice.sample(sorted(cluster.replicas), dice.choice((1, 1, 2, 3)))
            acts = [dice.choice(DISTURBANCES)(cluster.replicas[victim]) for victim in victims]
            if number % 5 == 4:
                acts.append(asyncio.to_thread(dice.choice((broker.restart, lambda: _power_cut(broker)))))
            await asyncio.gather(*acts)

    await _compare(own_kafka, tmp_path, turns=count * TURNS_PER_ROUND, pause=0.3, chaos=rounds)


def _power_cut(broker: EmbeddedKafka) -> None:
    broker.kill()
    broker.start()


async def _compare(broker: EmbeddedKafka, folder: Path, *, turns: int, pause: float, chaos: Chaos) -> None:
    """Run the same turns undisturbed, and, each event twice, disturbed."""
    wanted = turns + more_turns(turns)

    def enough(records: list[ConsumerRecord]) -> bool:
        return len(bodies_by_turn(records)) == wanted

    calm = await _settings(broker, "calm.")
    async with Cluster(calm, folder / "calm", SERVICES[:2], replicas=1), reward_service(calm):
        await publish_by_agents(calm, turns)
        expected = bodies_by_turn(await read_until(calm, "trajectories", enough))
    assert {len(bodies) for bodies in expected.values()} == {1}
    assert not any(PreferenceGroup.of_service(body).unscored for (body,) in expected.values())

    rough = await _settings(broker, "rough.")
    async with (
        Cluster(rough, folder / "rough", SERVICES, replicas=2, TUNESTREAM_STALL_SECONDS="2") as cluster,
        reward_service(rough),
    ):
        publishing = asyncio.create_task(publish_by_agents(rough, turns, times=2, pause=pause))
        await chaos(cluster, broker)
        events = await publishing
        await read_until(rough, "trajectories", enough)
        for service, topic in zip(SERVICES, ("ttc.events", "ttc.candidates", "trajectories"), strict=True):
            await until_handled(rough, service.replace("_", "-"), topic)
        await _a_stall_is_reported(cluster, rough)
        await asyncio.gather(*(replica.ready() for replica in cluster.replicas.values()))

    counted = origins(await read_all(rough, "ttc.candidates"))
    assert (len(counted), set(counted.values())) == (events, {1})
    assert bodies_by_turn(await read_all(rough, "trajectories")) == expected
    letters = Counter(header(letter, DLQ_REASON) for letter in await read_all(rough, "ttc.events.dlq"))
    assert letters == {"undecodable.header": quiet_turns(turns)}
    assert not await read_all(rough, "ttc.candidates.dlq")
    assert not await read_all(rough, "ttc.scores.dlq")
    asked = await read_all(rough, "ttc.unscored")
    assert len(asked) == quiet_turns(turns) * LATER_TURNS // 2, "nobody is asked twice"
    late = await lateness(rough, QUIET, QUIET_SECONDS)
    print("closing lateness, seconds of stream time:", dict(zip((50, 90, 99, 100), late, strict=True)))
    await _every_pair_is_in_one_batch(rough, folder / "rough", turns)


async def _a_stall_is_reported(cluster: Cluster, settings: KafkaSettings) -> None:
    """Hold a partition up, as an agent that hangs in a transaction does, until the log has it."""
    async with open_transaction(settings, candidate_of(QUIET, 0)), asyncio.timeout(DEADLINE):
        while "an open transaction of a producer" not in cluster.log():  # noqa: ASYNC110 - other processes
            await asyncio.sleep(0.2)


async def _settings(broker: EmbeddedKafka, prefix: str) -> KafkaSettings:
    settings = KafkaSettings(bootstrap_servers=broker.bootstrap_servers, topic_prefix=prefix)
    await apply_topics(settings)
    for run in RUNS:
        await apply_run(settings, run, trajectory_builder=BUILDER, batching=BATCHING)
    await apply_run(settings, QUIET, trajectory_builder=QUIET_BUILDER, batching=BATCHING)
    await apply_later_runs(settings, trajectory_builder=BUILDER, batching=BATCHING)
    return settings


async def _every_pair_is_in_one_batch(settings: KafkaSettings, folder: Path, turns: int) -> None:
    found = [
        TrainingBatch.model_validate_json(record.value)
        for record in await read_all(settings, "training.batches")
        if header(record, "ce_type") == type_of(TrainingBatch)
    ]
    batches = [batch for batch in found if batch.run_id in RUNS]  # the others' fill in a long soak only
    windows = turns // len(RUNS) // WINDOW_TURNS
    epochs = sorted((batch.run_id, batch.epoch) for batch in batches)
    assert epochs == [(run, epoch) for run in sorted(RUNS) for epoch in range(windows)]
    store = ArtifactStore(str(folder / "artifacts"))
    rows = [
        (batch.run_id, row.example_id, row.turn_id, row.chosen, row.rejected)
        for batch in batches
        for part in (batch.train, batch.validation)
        if part is not None
        for row in read_rows(store.get_bytes(part.uri, part.sha256))
        if isinstance(row, PreferenceRow)
    ]
    assert len(rows) == len(set(rows)) == turns * CANDIDATES
