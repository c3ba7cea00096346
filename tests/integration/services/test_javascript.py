"""The agent of examples/agent.mjs: whatever it sends, the pairs are those of our SDK's turns."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest
from aiokafka import ConsumerRecord

from tests.helpers.log import read_all, read_until
from tests.helpers.runs import apply_run
from tests.helpers.services import Deployment
from tunestream.config.settings import KafkaSettings
from tunestream.events.cloudevents import Envelope
from tunestream.events.groups import PreferenceGroup
from tunestream.events.registry import model_of
from tunestream.sdk import TTCPublisher

ROOT: Final = Path(__file__).parents[3]
CLIENT: Final = "kafkajs@2.2.4"
OURS, THEIRS = "javascript-sdk", "javascript"
# Those of the example: eight whole, one in parts, one as single candidates, one whose scores come later.
TURNS: Final = 11
BUILDER = {"exhaustive_pairs": True, "max_pairs_per_turn": None}
NO_BATCHES = {"window_pairs": 1_000_000, "max_wait": "366d", "flush_after": "366d"}
Pairs = dict[str, list[tuple[str, str, float]]]


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script beside its client; without node or the registry the test cannot run, and shows why."""
    if missing := [name for name in ("node", "npm") if shutil.which(name) is None]:
        pytest.skip(f"{' and '.join(missing)} not found: install Node.js to run the agent in JavaScript")
    folder = tmp_path_factory.mktemp("javascript")
    options = ("--no-audit", "--no-fund", "--no-package-lock", "--prefix", str(folder))
    try:
        installed = subprocess.run(
            ["npm", "install", *options, CLIENT],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm did not install {CLIENT} within 60 s: no answer of its registry")
    if installed.returncode:
        pytest.skip(f"npm cannot install {CLIENT}: {installed.stderr.strip()[-500:]}")
    return Path(shutil.copy(ROOT / "examples" / "agent.mjs", folder))


async def test_the_pairs_are_those_of_our_sdk(deployment: Deployment, agent: Path) -> None:
    kafka = deployment.kafka
    for run in (OURS, THEIRS):
        await apply_run(kafka, run, scores="later", trajectory_builder=BUILDER, batching=NO_BATCHES)
    done = await asyncio.to_thread(_node, kafka, agent)
    assert done.returncode == 0, done.stderr
    await _publish(kafka)
    pairs = await _pairs(kafka)
    assert len(pairs[OURS]) == TURNS
    assert all(pairs[OURS].values())
    assert pairs[THEIRS] == pairs[OURS]
    letters = await read_all(kafka, "ttc.events.dlq") + await read_all(kafka, "ttc.candidates.dlq")
    assert [letter for letter in letters if (letter.key or b"").startswith(b"javascript")] == []


def _node(kafka: KafkaSettings, agent: Path) -> subprocess.CompletedProcess[str]:
    broker = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "TUNESTREAM_KAFKA_TOPIC_PREFIX": kafka.topic_prefix,
    }
    command = ["node", agent.name, THEIRS, "--later"]
    return subprocess.run(
        command,
        cwd=agent.parent,
        env=os.environ | broker,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


async def _publish(kafka: KafkaSettings) -> None:
    """Publish what the agent publishes, each turn whole."""
    async with TTCPublisher(kafka) as publisher:
        for n in range(TURNS):
            later = n == TURNS - 1
            scores = {str(2 * n - 1 + number): -float(abs(number - 1)) for number in range(4)}
            async with publisher.turn(OURS, f"sum-{n}", prompt=f"{n} + {n} = ?") as turn:
                for answer, score in scores.items():
                    turn.candidate(answer, score=None if later else score, candidate_id=answer)
            if later:
                assert turn.receipt is not None
                for answer, score in scores.items():
                    await publisher.score(turn.receipt, answer, score=score, source="tests")


async def _pairs(kafka: KafkaSettings) -> dict[str, Pairs]:
    """Return the pairs of each run by example, once all turns have closed."""

    def enough(records: list[ConsumerRecord]) -> bool:
        return len(_groups(records)) >= 2 * TURNS

    found: dict[str, Pairs] = {OURS: {}, THEIRS: {}}
    for group in _groups(await read_until(kafka, "trajectories", enough)):
        found[group.run_id][group.example_id] = sorted(
            (str(group.members[chosen].response), str(group.members[rejected].response), reward)
            for chosen, rejected, reward in group.pairs
        )
    return found


def _groups(records: list[ConsumerRecord]) -> list[PreferenceGroup]:
    bodies = (
        model.model_validate_json(record.value)
        for record in records
        if record.key in {OURS.encode(), THEIRS.encode()}
        and (model := model_of(Envelope.from_headers(record.headers).type)) is not None
    )
    return [body for body in bodies if isinstance(body, PreferenceGroup)]
