"""The story of the examples: one turn of one game, from its candidates to a model version."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final, NamedTuple

from pydantic import BaseModel

from tools.wire.scene import (
    AGENT,
    BASE,
    CONFIG,
    EXAMPLE,
    PARTITION,
    POLICY,
    PROMPT,
    RUN,
    TIME,
    TURN,
    stored_at,
)
from tools.wire.turn_story import decided
from tunestream.config.run.evaluation import LiveConfig
from tunestream.domain.collector.core import Collector
from tunestream.domain.collector.normaliser import normalise_native
from tunestream.domain.effects import Effects, Outbound, Refused
from tunestream.domain.gate.bodies import arrival_of
from tunestream.domain.jobs.commands import obey
from tunestream.domain.jobs.ledger import JobLedger
from tunestream.domain.models.live import LiveCollector
from tunestream.domain.models.monitoring import observe
from tunestream.domain.turns.core import PairBuilder, event_of
from tunestream.domain.turns.group_rules import GroupRules
from tunestream.events.base import Wire
from tunestream.events.cloudevents import Envelope
from tunestream.events.ids import batch_id, content_digest, group_id, job_id, stable_id
from tunestream.events.live import ExampleSums, LiveScores, ScoreSummary
from tunestream.events.models import Artifact, Evaluation
from tunestream.events.nat import (
    IntermediateStep,
    IntermediateStepPayload,
    IntermediateStepType,
    StreamEventData,
)
from tunestream.events.registry import type_of
from tunestream.events.runs import FORMAT, FormatRecord, RunPointer
from tunestream.events.scores import ScoreAnswer
from tunestream.events.training import ControlCommand, CurriculumState, DatasetFile, Objective, TrainingBatch
from tunestream.events.trajectories import EpisodeItem, EpisodeItemRole, TrajectoryGroup, TrajectoryGroupRef
from tunestream.events.ttc import (
    EVERY_RUN,
    CandidateStep,
    Tick,
    TTCCandidate,
    TTCEpisode,
    TTCExampleEnd,
    TTCTurnEnd,
)
from tunestream.sdk.event_records import nat_record, native_record
from tunestream.streams.letters.letter import DeadLetter
from tunestream.streams.letters.marks import mark_record
from tunestream.streams.publish import EncodedRecord, event_record

__all__ = [
    "Refusal",
    "applied",
    "batched",
    "collected",
    "commanded",
    "marked",
    "paired",
    "published",
    "refusals",
    "trained",
]

_NOW: Final = datetime.fromtimestamp(TIME // 1000, UTC)


def _candidate(name: str, response: str, score: float) -> TTCCandidate:
    return TTCCandidate(
        run_id=RUN,
        example_id=EXAMPLE,
        turn_id=TURN,
        candidate_id=name,
        candidate_index=int(name[1:]),
        prompt=PROMPT,
        response=response,
        score=score,
        policy_version=POLICY,
        metadata={"temperature": 0.8},
    )


_BETTER: Final = _candidate("c0", "4", 0.75)
_WORSE: Final = _candidate("c1", "3", -0.25)
_TURN_END: Final = TTCTurnEnd(run_id=RUN, example_id=EXAMPLE, turn_id=TURN)
_EXAMPLE_END: Final = TTCExampleEnd(run_id=RUN, example_id=EXAMPLE)
_EPISODE: Final = TTCEpisode(
    run_id=RUN,
    example_id=EXAMPLE,
    episode_id="e0",
    items=[
        EpisodeItem(role=EpisodeItemRole.USER, content="X O _\n_ X _\n_ _ O"),
        EpisodeItem(role=EpisodeItemRole.ASSISTANT, content="4", logprobs=[{"token": "4", "logprob": -0.5}]),
    ],
    reward=1.0,
    policy_version=POLICY,
)
_Native = TTCCandidate | TTCTurnEnd | TTCExampleEnd | TTCEpisode
_NATIVE: Final[tuple[_Native, ...]] = (_BETTER, _TURN_END, _EXAMPLE_END, _EPISODE)
_STEP: Final = IntermediateStep(
    payload=IntermediateStepPayload(
        event_type=IntermediateStepType.TTC_END,
        event_timestamp=TIME / 1000,
        name="dpo_candidate_move",
        metadata={"is_selected": True},
        data=StreamEventData.model_validate(
            {
                "input": [message.model_dump() for message in PROMPT],
                "output": "4",
                "turn_id": TURN,
                "turn_index": 3,
                "candidate_index": 0,
                "score": 0.75,
            }
        ),
        UUID="5e0c6a34-7f1b-4e7e-9d57-3f0f5c1d9a10",
    )
)


def published() -> Iterator[EncodedRecord]:
    """Yield what agents send."""
    for event in _NATIVE:
        yield native_record(event, source=AGENT, time=TIME)
    yield nat_record(RUN, EXAMPLE, _STEP.model_dump_json().encode(), source=AGENT, time=TIME)


def collected() -> list[Outbound]:
    """Return what the collector makes of it, and the tick after a silence of 1.5 s."""
    collector, effects = Collector(PARTITION), Effects()
    collector.advance(TIME, now=0.0)
    for number, event in enumerate(_NATIVE):
        output = collector.take(normalise_native(event), CONFIG, CONFIG.digest, effects)
        output.extensions["tsorigin"] = f"{PARTITION}/{1041 + number}"
    collector.tick(1.5, TIME + 1500, effects)
    return effects.outbound


def paired() -> list[Outbound]:
    """Return what the pair builder makes of the turn, and the tick that it passes on."""
    builder, effects = _builder(), Effects()
    for event in (_BETTER, _WORSE, _TURN_END):
        _give(builder, event, TIME, effects)
    builder.handle(Tick(run_id=EVERY_RUN), time=TIME + 1500, config_digest="", raw=b"", effects=effects)
    _, group, tick = effects.outbound  # the first is a tick as well: with the first candidate time began
    return [group, _stored(), tick]


def _builder() -> PairBuilder:
    rules = GroupRules.of(CONFIG.trajectory_builder.model_copy(update={"wire": "expanded"}))
    return PairBuilder(lambda _run, _digest: rules, partition=PARTITION)


def _give(builder: PairBuilder, event: TTCCandidate | TTCTurnEnd, time: int, effects: Effects) -> None:
    body = normalise_native(event)
    raw = body.to_json()
    builder.handle(event_of(body), time=time, config_digest=CONFIG.digest, raw=raw, effects=effects)


def _stored() -> Outbound:
    """Return what stands for a group that is too large for a record."""
    name, sha256 = group_id(RUN, EXAMPLE, "turn-4", "c0"), content_digest(b"turn-4")
    uri = stored_at(sha256)
    body = TrajectoryGroupRef(run_id=RUN, group_id=name, uri=uri, sha256=sha256, size=5_242_880)
    extensions = {"tsdigest": CONFIG.digest, "tspartition": str(PARTITION)}
    return Outbound("trajectories", body, name, TIME, (RUN,), extensions)


def _dataset(name: str, rows: int) -> DatasetFile:
    sha256 = content_digest(name.encode())
    return DatasetFile(uri=stored_at(sha256), sha256=sha256, rows=rows, size=rows * 512)


def _batch() -> TrainingBatch:
    train, validation = _dataset("train", 211), _dataset("validation", 19)
    contents = stable_id("dataset", train.sha256, validation.sha256)
    return TrainingBatch(
        run_id=RUN,
        batch_id=batch_id(RUN, CONFIG.digest, 0, contents),
        config_digest=CONFIG.digest,
        objective=Objective.DPO,
        epoch=0,
        train=train,
        validation=validation,
        groups=230,
        dropped={"percentile": 154},
        curriculum=CurriculumState(
            current_percentile=0.6, last_expansion_epoch=-1, total_groups=384, included_groups=[0, 1, 2]
        ),
        policy_versions=[POLICY],
        unversioned_rows=3,
    )


def batched() -> list[Outbound]:
    """Return what the curriculum gate makes of a window, and what it publishes of the turn's scores."""
    batch = _batch()
    key, extensions = (RUN,), {"tsdigest": CONFIG.digest}
    live, effects, group = LiveCollector(), Effects(), paired()[0].body
    assert isinstance(group, TrajectoryGroup)
    live.take(arrival_of(group), LiveConfig(), TIME, effects)
    live.publish(RUN, TIME + 10_000, effects)
    return [
        Outbound("training.batches", batch, batch.batch_id, TIME, key, extensions),
        *decided(batch.batch_id),
        *effects.outbound,
    ]


def _command() -> ControlCommand:
    job = job_id(RUN, _batch().batch_id)
    return ControlCommand(run_id=RUN, command_id="5f2b7c1e", action="cancel", job_id=job)


def commanded() -> EncodedRecord:
    """Return what somebody asks of the run's owner."""
    command = _command()
    return _event("training.control", (RUN,), command, command.command_id)


def trained() -> list[Outbound]:
    """Return what the trainer publishes: the answer to the command, the job, its version, its scores."""
    ledger, effects = JobLedger(), Effects()
    batch = _batch()
    job = job_id(RUN, batch.batch_id)
    ledger.accept(batch, backend="trl", now=_NOW, effects=effects)
    ledger.start(job, now=_NOW, effects=effects)
    ledger.complete(
        job,
        1,
        artifact=_adapter(),
        base_model=BASE,
        metrics={"train_loss": 0.25, "validation_reward_accuracy": 0.875},
        evaluation=Evaluation(items=120, difference=0.05, low=0.01, high=0.09, verdict="promoted"),
        message="trained on 211 rows",
        now=_NOW,
        effects=effects,
    )
    obey(ledger, _command(), now=_NOW, effects=effects)
    observe(ledger, _scores(ledger), LiveConfig(), now=_NOW, effects=effects)
    return _latest(effects.outbound)


def _scores(ledger: JobLedger) -> LiveScores:
    """Return what the turns of the new version scored."""
    current = ledger.current(RUN)
    assert current is not None
    sums = ExampleSums(examples=4, turns_squared=40.0, scores_squared=5.75, products=15.0)
    summary = ScoreSummary(turns=12, mean=0.375, squares=0.5, by_example=sums)
    return LiveScores(run_id=RUN, config_digest=CONFIG.digest, versions={current.version: summary})


def _adapter() -> Artifact:
    sha256 = content_digest(b"adapter")
    return Artifact(uri=f"artifact://trees/{sha256}", sha256=sha256, kind="adapter")


def _latest(outbound: Iterable[Outbound]) -> list[Outbound]:
    """Keep the last output of each topic and type."""
    return list({(output.topic, type(output.body)): output for output in outbound}.values())


def applied() -> list[EncodedRecord]:
    """Return the configuration of the run, the pointer to it, and the format of the deployment."""
    record, pointer = CONFIG.to_record(), RunPointer(run_id=RUN, digest=CONFIG.digest)
    return [
        _event("runs", (RUN, CONFIG.digest), record, stable_id("run", RUN, record.digest, record.digest)),
        _event("runs", (RUN, "current"), pointer, stable_id("run", RUN, record.digest, "current")),
        _event("runs", ("format",), FormatRecord(format=FORMAT), stable_id("run", "format", str(FORMAT))),
    ]


def _event(name: str, key: tuple[str, ...], body: Wire, identity: str) -> EncodedRecord:
    envelope = Envelope(id=identity, type=type_of(body), source="/tunestream/cli", time=TIME)
    return event_record(name, key, body.to_json(), envelope)


def marked() -> EncodedRecord:
    """Return the mark of a dead letter that was sent again."""
    letter = DeadLetter(
        source="ttc.events",
        partition=PARTITION,
        offset=7,
        time=TIME,
        run_id=RUN,
        code="unknown_run",
        message="",
        service="ttc-collector",
        version="",
        source_partition=PARTITION,
        source_offset=1041,
    )
    return mark_record(letter, _NOW)


class Refusal(NamedTuple):
    """A record of the story as it would have been refused.

    Attributes:
        topic: where it was.
        body: its class.
        service: that refused it.
        why: reason and remedy.
        key: the parts of the key it came with, None for the right one.
    """

    topic: str
    body: type[BaseModel]
    service: str
    why: Refused
    key: tuple[str, ...] | None = None


def refusals() -> list[Refusal]:
    """Return one refusal for each topic that has dead letters."""
    never = f"run {RUN!r} was never applied; run `tunestream run apply` and replay"
    unknown = f"run {RUN!r} has no configuration {CONFIG.digest}"
    key = f"the record's key is not the run {RUN!r}; its owner is elsewhere"
    return [
        Refusal("ttc.events", TTCCandidate, "ttc-collector", Refused("unknown_run", never)),
        Refusal("ttc.candidates", CandidateStep, "pair-builder", _late()),
        Refusal("ttc.scores", ScoreAnswer, "pair-builder", Refused("unknown_run", unknown)),
        Refusal("trajectories", TrajectoryGroup, "curriculum-gate", Refused("unknown_run", unknown)),
        Refusal("training.batches", TrainingBatch, "trainer", Refused("unknown_run", unknown)),
        Refusal("training.control", ControlCommand, "trainer", Refused("wrong_key", key), (RUN, "5f2b7c1e")),
    ]


def _late() -> Refused:
    """Have the pair builder refuse a candidate of a turn that was closed."""
    builder = _builder()
    for event in (_WORSE, _TURN_END):
        _give(builder, event, TIME, Effects())
    try:
        _give(builder, _BETTER, TIME, Effects())
    except Refused as refused:
        return refused
    raise AssertionError("the pair builder took a candidate of a closed turn")
