"""From candidates to training batches, through three running services."""

from __future__ import annotations

from tests.helpers.log import BATCH, WINDOW, header, read_until
from tests.helpers.runs import apply_run
from tests.helpers.services import Deployment
from tunestream.artifacts import read_rows
from tunestream.events.dataset import PreferenceRow
from tunestream.events.training import TrainingBatch
from tunestream.events.windows import CurriculumWindow
from tunestream.sdk import TTCPublisher

RUN = "windows"
TURNS = 80


async def test_windows_of_turns_become_datasets(deployment: Deployment) -> None:
    config = await apply_run(
        deployment.kafka,
        RUN,
        trajectory_builder={"exhaustive_pairs": False},
        trainer={"model": {"hf_model_ckpt": str(deployment.folder / "no-model")}},  # no hub is asked for it
        batching={"window_pairs": 40, "min_batch_pairs": 10, "validation_fraction": 0.2},
    )
    async with TTCPublisher(deployment.kafka, policy_version="v0") as publisher:
        for number in range(TURNS):
            async with publisher.turn(RUN, f"example-{number}", prompt=f"prompt {number}") as turn:
                for score in (0.1, 0.9, 0.5):
                    turn.candidate(f"answer {score}", score=score)
    found = await read_until(deployment.kafka, "training.batches", lambda found: len(found) == 4, run=RUN)
    records = [record for record in found if header(record, "ce_type") == BATCH]
    batches = [TrainingBatch.model_validate_json(record.value) for record in records]
    assert [header(record, "ce_id") for record in records] == [batch.batch_id for batch in batches]
    windows = [
        CurriculumWindow.model_validate_json(record.value)
        for record in found
        if header(record, "ce_type") == WINDOW
    ]
    assert [window.batch_id for window in windows] == [batch.batch_id for batch in batches]
    assert [len(set(window.selected)) for window in windows] == [40, 40]
    assert [batch.epoch for batch in batches] == [0, 1]
    assert {batch.config_digest for batch in batches} == {config.digest}
    assert {tuple(batch.policy_versions) for batch in batches} == {("v0",)}
    examples = set()
    for batch in batches:
        assert batch.validation is not None
        assert batch.train.rows + batch.validation.rows == 40
        for part in (batch.train, batch.validation):
            for row in read_rows(deployment.store.get_bytes(part.uri, part.sha256)):
                assert isinstance(row, PreferenceRow)
                assert (row.chosen, row.rejected) == ("answer 0.9", "answer 0.1")
                examples.add(row.example_id)
    assert len(examples) == TURNS
