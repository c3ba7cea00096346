"""DPOTrajectoryBuilder over what the collector has written."""

from __future__ import annotations

from pathlib import Path

from tunestream.config.run.trajectory_builder import DPOTrajectoryBuilderConfig
from tunestream.config.settings import KafkaSettings
from tunestream.events.base import Wire
from tunestream.events.cloudevents import Envelope
from tunestream.events.registry import type_of
from tunestream.events.ttc import CandidateStep, ExampleEnd, Tick
from tunestream.sdk import DPOTrajectoryBuilder, collected_events
from tunestream.streams.admin import apply_topics
from tunestream.streams.atomic import write_together
from tunestream.streams.publish import event_record


def candidate(run_id: str, example_id: str, score: float) -> CandidateStep:
    return CandidateStep(
        run_id=run_id,
        example_id=example_id,
        turn_id="t",
        candidate_id=f"{run_id}-{example_id}-{score}",
        candidate_index=None,
        prompt="p",
        response=f"says {score}",
        score=score,
    )


async def write(settings: KafkaSettings, *bodies: tuple[tuple[str, ...], Wire]) -> None:
    """Write as the collector does: keyed by run and example, in a transaction."""
    envelopes = [Envelope(id=str(at), type=type_of(body), source="/t") for at, (_, body) in enumerate(bodies)]
    records = [
        event_record("ttc.candidates", key, body.to_json(), envelope)
        for (key, body), envelope in zip(bodies, envelopes, strict=True)
    ]
    await write_together(settings, "collector", records)


async def test_a_run_is_read_from_its_topic_up_to_now(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    await apply_topics(kafka_settings)
    await write(
        kafka_settings,
        (("r", "a"), candidate("r", "a", 0.25)),
        (("other", "a"), candidate("other", "a", 1.0)),
        (("r",), Tick(run_id="r")),
        (("r", "a"), candidate("r", "a", 1.0)),
        (("r", "b"), candidate("r", "b", 0.0)),
        (("r", "b"), candidate("r", "b", 0.5)),
        (("r", "a"), ExampleEnd(run_id="r", example_id="a")),
    )
    builder = DPOTrajectoryBuilder(
        DPOTrajectoryBuilderConfig(), collected_events(kafka_settings), progress_dir=tmp_path
    )
    await builder.start_run("r")
    collection = await builder.finalize("r")
    assert sorted([one.reward for one in group] for group in collection.trajectories) == [[0.5], [0.75]]
    await builder.start_run("nobody")
    assert (await builder.finalize("nobody")).trajectories == []
