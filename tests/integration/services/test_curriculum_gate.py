"""From candidates to training batches, through three running services."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.log import header, read_until
from tests.helpers.runs import apply_run
from tests.helpers.services import ServiceProcess
from tunestream.artifacts import ArtifactStore, read_rows
from tunestream.config.settings import KafkaSettings
from tunestream.events.dataset import PreferenceRow
from tunestream.events.training import TrainingBatch
from tunestream.sdk import TTCPublisher
from tunestream.streams.admin import apply_topics

TURNS = 80


async def test_windows_of_turns_become_datasets(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    await apply_topics(kafka_settings)
    config = await apply_run(
        kafka_settings,
        "run",
        trajectory_builder={"exhaustive_pairs": False},
        batching={"window_pairs": 40, "min_batch_pairs": 10, "validation_fraction": 0.2},
    )
    async with (
        ServiceProcess("ttc_collector", kafka_settings, tmp_path),
        ServiceProcess("pair_builder", kafka_settings, tmp_path),
        ServiceProcess("curriculum_gate", kafka_settings, tmp_path),
    ):
        async with TTCPublisher(kafka_settings, policy_version="v0") as publisher:
            for number in range(TURNS):
                async with publisher.turn("run", f"example-{number}", prompt=f"prompt {number}") as turn:
                    for score in (0.1, 0.9, 0.5):
                        turn.candidate(f"answer {score}", score=score)
        records = await read_until(kafka_settings, "training.batches", lambda found: len(found) == 2)
    batches = [TrainingBatch.model_validate_json(record.value) for record in records]
    assert [header(record, "ce_id") for record in records] == [batch.batch_id for batch in batches]
    assert [batch.epoch for batch in batches] == [0, 1]
    assert {batch.config_digest for batch in batches} == {config.digest}
    assert {tuple(batch.policy_versions) for batch in batches} == {("v0",)}
    store = ArtifactStore(str(tmp_path / "artifacts"))
    examples = set()
    for batch in batches:
        assert batch.validation is not None
        assert batch.train.rows + batch.validation.rows == 40
        for part in (batch.train, batch.validation):
            for row in read_rows(store.get_bytes(part.uri, part.sha256)):
                assert isinstance(row, PreferenceRow)
                assert (row.chosen, row.rejected) == ("answer 0.9", "answer 0.1")
                examples.add(row.example_id)
    assert len(examples) == TURNS
