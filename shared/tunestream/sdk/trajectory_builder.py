"""Trajectories in one process, without services, under the reference's name and life cycle."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tunestream.config.run.trajectory_builder import DPOTrajectoryBuilderConfig
from tunestream.config.settings import KafkaSettings
from tunestream.domain.effects import Refused
from tunestream.domain.turns.closed_turns import ClosedTurn
from tunestream.domain.turns.offline import OfflineBuilder, RunEvent, Summary
from tunestream.events.keys import encode_key
from tunestream.events.trajectories import Trajectory, TrajectoryCollection
from tunestream.events.ttc import CandidateStep, ExampleEnd, TurnEnd
from tunestream.events.turns import TurnStep
from tunestream.sdk.environment import settings_or_environment
from tunestream.streams.reading import RecordReader, stored_events

__all__ = ["DPOTrajectoryBuilder", "EventSource", "collected_events"]

EventSource = Callable[[str], Iterable[RunEvent] | AsyncIterable[RunEvent]]

_PROGRESS: Final = Path(".tunestream/dpo_trajectory_builder")
_SHOWN: Final = {"ttc_step_name", "exhaustive_pairs", "min_score_diff", "max_pairs_per_turn"}
_log = logging.getLogger(__name__)


class DPOTrajectoryBuilder:
    """Makes preference trajectories of the events of a run, with the rules that the services follow.

    Where a run ends is where its source ends: time-outs mean nothing here.

    Example::

        builder = DPOTrajectoryBuilder(DPOTrajectoryBuilderConfig(), lambda run_id: my_events)
        await builder.start_run("tic-tac-toe")
        collection = await builder.finalize("tic-tac-toe")

    Args:
        config: how candidates are paired.
        source: run id → its events, as an iterable or an async iterable that ends; called by
            :meth:`finalize`. See also :func:`collected_events`.
        progress_dir: folder of the files that :meth:`log_progress` writes.

    Attributes:
        metrics: what became of the run that was finalized last.
    """

    def __init__(
        self, config: DPOTrajectoryBuilderConfig, source: EventSource, *, progress_dir: Path | str = _PROGRESS
    ) -> None:
        self.config = config
        self.metrics: Mapping[str, Any] = {}
        self._source = source
        self._progress_dir = Path(progress_dir)
        self._started: dict[str, Mapping[str, Any]] = {}

    async def start_run(self, run_id: str, meta: Mapping[str, Any] | None = None) -> None:
        """Begin a run; ``meta`` goes into its progress file.

        Raises:
            ValueError: when it is in progress.
        """
        if run_id in self._started:
            raise ValueError(f"Run {run_id} is already in progress.")
        self._started[run_id] = meta or {}

    async def finalize(self, run_id: str, meta: Mapping[str, Any] | None = None) -> TrajectoryCollection:
        """Read the run's events to their end and return its trajectories, grouped by example.

        An event that breaks a rule is logged, counted in :attr:`metrics` and left out. The
        run is over afterwards, also after an error, and may be started again.

        Raises:
            ValueError: when the run was not started, or the source gives another run's events.
        """
        if run_id not in self._started:
            raise ValueError(f"No evaluation run found for run_id: {run_id}")
        begun = self._started.pop(run_id)
        builder = OfflineBuilder(run_id, self.config, timeless=True)
        turns: list[ClosedTurn] = []
        async for event in _iterate(self._source(run_id)):
            try:
                turns += builder.take(event)
            except Refused as refused:
                builder.summary.refused[refused.code] += 1
                _log.warning("run %s: an event is left out: %s", run_id, refused)
        examples = _by_example(turns + builder.finish())
        self.metrics = _metrics(run_id, builder.summary, len(examples))
        self.log_progress(run_id, {**begun, **(meta or {})})
        return TrajectoryCollection(trajectories=examples, run_id=run_id)

    def log_progress(
        self, run_id: str, metrics: Mapping[str, Any], output_dir: Path | str | None = None
    ) -> None:
        """Append a line of JSON to ``dpo_trajectory_builder_{run_id}.jsonl``.

        It holds time, run, how pairs are made, :attr:`metrics` and what is given. In the file's name the
        run id is percent-encoded.
        """
        folder = self._progress_dir if output_dir is None else Path(output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        line = {
            "timestamp": datetime.now(UTC).isoformat(),
            "run_id": run_id,
            "config": self.config.model_dump(mode="json", include=_SHOWN),
            **(self.metrics if self.metrics.get("run_id") == run_id else {}),
            **metrics,
        }
        path = folder / f"dpo_trajectory_builder_{encode_key(run_id).decode()}.jsonl"
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, default=str) + "\n")


def collected_events(settings: KafkaSettings | None = None) -> EventSource:
    """Return a source of what the collector has validated: a run's part of ``ttc.candidates`` as of now.

    Args:
        settings: the broker; by default from the environment.
    """

    async def of_run(run_id: str) -> AsyncIterator[RunEvent]:
        async with RecordReader(
            settings_or_environment(settings), "ttc.candidates", from_beginning=True
        ) as reader:
            async for stored in stored_events(reader.to_end()):
                body = stored.body
                if (
                    isinstance(body, CandidateStep | TurnStep | TurnEnd | ExampleEnd)
                    and body.run_id == run_id
                ):
                    yield body

    return of_run


async def _iterate(events: Iterable[RunEvent] | AsyncIterable[RunEvent]) -> AsyncIterator[RunEvent]:
    if isinstance(events, AsyncIterable):
        async for event in events:
            yield event
    else:
        for event in events:
            yield event


def _by_example(turns: Iterable[ClosedTurn]) -> list[list[Trajectory]]:
    """Gather the trajectories of each example; examples without any are left out."""
    found: dict[str, list[Trajectory]] = {}
    for turn in turns:
        if turn.pairs:
            found.setdefault(turn.example_id, []).extend(turn.trajectories)
    return list(found.values())


def _metrics(run_id: str, summary: Summary, examples: int) -> dict[str, Any]:
    """Count what became of the run, in the reference's names; ``refused`` and ``repeats`` are ours."""
    skipped = {"single_candidate": 0, "score_diff": 0} | summary.skipped
    return {
        "run_id": run_id,
        "total_examples": examples,
        "total_turns": summary.turns,
        "total_candidates": summary.candidates,
        "total_pairs": summary.pairs,
        "total_trajectories": summary.pairs,
        **{f"skipped_{reason}": number for reason, number in skipped.items()},
        "refused": dict(summary.refused),
        "repeats": summary.repeats,
    }
