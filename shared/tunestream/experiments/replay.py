"""An arm's training data as a stream: events whose batch is, byte for byte, what the arm trained on."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

from tunestream.artifacts import read_rows
from tunestream.config.experiment.experiment import Config
from tunestream.config.run.curriculum import CurriculumLearningConfig
from tunestream.config.run.run import BatchingConfig, RunConfig
from tunestream.config.run.trajectory_builder import DPOTrajectoryBuilderConfig
from tunestream.events.dataset import PreferenceRow
from tunestream.events.ttc import TTCCandidate
from tunestream.experiments.examples import CHOSEN, EXAMPLE_ID, REJECTED

__all__ = ["NoReplay", "replay_events", "replay_run"]

_LONG: Final = timedelta(days=1)


class NoReplay(ValueError):
    """The data make no stream of candidates."""


def replay_run(config: Config, run_id: str, rows: int) -> RunConfig:
    """Return the run under which a replay of ``rows`` rows becomes one batch, trained as the arm was."""
    return RunConfig(
        run_id=run_id,
        trajectory_builder=DPOTrajectoryBuilderConfig(exhaustive_pairs=True, min_score_diff=0.0),
        curriculum_learning=CurriculumLearningConfig(enabled=False),
        batching=BatchingConfig(
            window_pairs=rows,
            min_batch_pairs=rows,
            max_wait=_LONG,
            flush_after=_LONG,
            validation_fraction=0.0,
        ),
        trainer=config.trainer,
    )


def replay_events(train: Path, run_id: str) -> Iterator[TTCCandidate]:
    """Yield two scored candidates for each row of ``train.jsonl``, in order.

    Raises:
        NoReplay: when a row has no two answers, or comes from a run of its own.
    """
    for number, row in enumerate(read_rows(train.read_bytes()), start=1):
        if not isinstance(row, PreferenceRow):
            raise NoReplay(
                f"row {number} of {train} has one answer, which makes no pair: "
                f"tunestream jobs submit --dataset {train} trains a run on these very rows"
            )
        if row.example_id != EXAMPLE_ID:
            raise NoReplay(f"{train} comes from a stream: the events of its run are its replay")
        for index, (name, response) in enumerate(((CHOSEN, row.chosen), (REJECTED, row.rejected))):
            yield TTCCandidate(
                run_id=run_id,
                example_id=EXAMPLE_ID,
                turn_id=row.turn_id,
                candidate_id=name,
                candidate_index=index,
                prompt=row.prompt,
                response=response,
                score=1.0 - index,
                expected_candidates=2,
            )
