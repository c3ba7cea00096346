"""Candidate → open turns → trajectory groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from typing_extensions import override

from tunestream.artifacts import ArtifactStore
from tunestream.domain.effects import Effects, Refused
from tunestream.domain.parked import Parked
from tunestream.domain.scoring.asked import asked_prefix
from tunestream.domain.turns.core import PairBuilder
from tunestream.domain.turns.partition_state import configuration_of, example_prefixes
from tunestream.events.scores import EVERYWHERE, ScoreAnswer, ScoreAnswerRef, ScoreStep
from tunestream.events.ttc import EpisodeStep, ExampleEnd, Tick, TurnEnd
from tunestream.events.views.candidates import TurnView
from tunestream.streams.runs import RunDirectory
from tunestream.streams.tasks.handler import Handler, Inbound
from tunestream_services.pair_builder.bodies import LargeBodies

__all__ = ["PairBuilderHandler"]

_BODIES: Final = (TurnView, ScoreStep, TurnEnd, ExampleEnd, EpisodeStep, Tick)
_Example = TurnView | ScoreStep | TurnEnd | ExampleEnd | EpisodeStep


class PairBuilderHandler(Handler):
    """One partition of ``ttc.candidates``, and of the answers to what was asked about its turns."""

    def __init__(
        self, builder: PairBuilder, runs: RunDirectory, store: ArtifactStore, largest_group: int
    ) -> None:
        self._builder = builder
        self._runs = runs
        self._bodies = LargeBodies(store, largest_group)
        self._parked = Parked()

    @override
    def restore(self, key: bytes, value: bytes) -> None:
        """Take back a record; one whose run's configuration cannot be read waits."""
        configuration = configuration_of(key)
        if configuration is None or self._runs.has(*configuration):
            self._builder.restore(key, value)
        else:
            self._parked.keep(configuration, key, value)

    @override
    async def prepare(self, records: Sequence[Inbound], now: float) -> None:
        """Read the runs again when a configuration is not known; fetch the bodies of large answers."""
        configurations = {_configuration_of(record) for record in records}
        if not all(digest is None or self._runs.has(run, digest) for run, digest in configurations):
            await self._runs.refresh_since(now)
        for key, value in self._parked.release(self._runs.has):
            self._builder.restore(key, value)
        await self._bodies.fetch(records, self._builder)

    @override
    def handle(self, record: Inbound, effects: Effects) -> None:
        """Advance stream time, then take the record."""
        body, envelope = record.body, record.envelope
        # Turns first: that a view is no pydantic class is found out slowly, by its metaclass.
        if not isinstance(body, TurnView) and isinstance(body, ScoreAnswer | ScoreAnswerRef):
            self._answer(body, effects)
            return
        assert isinstance(body, _BODIES)
        if envelope.time is None:
            raise Refused("schema.missing", "header ce_time is missing; stream time comes from it")
        config_digest = envelope.extensions.get("tsdigest", "")
        if isinstance(body, TurnView) or not isinstance(body, Tick):
            self._check_configuration(body, config_digest, envelope.time, effects)
        self._builder.handle(
            body,
            time=envelope.time,
            config_digest=config_digest,
            raw=record.value,
            effects=effects,
            everywhere=EVERYWHERE in envelope.extensions,
        )

    def _check_configuration(self, body: _Example, config_digest: str, time: int, effects: Effects) -> None:
        if not config_digest:
            raise Refused("schema.missing", "header ce_tsdigest is missing; the collector stamps it")
        if (needed := self._unreadable(body, config_digest)) is not None:
            # Also what is refused is no silence: were it, a quiet turn beside it would wait for its end.
            self._builder.advance(time, effects)
            raise _unknown_run(body.run_id, needed)

    def _answer(self, body: ScoreAnswer | ScoreAnswerRef, effects: Effects) -> None:
        turn = (body.run_id, body.example_id, body.turn_id)
        if (needed := self._parked.needs(asked_prefix(turn))) is not None:
            raise _unknown_run(*needed)
        answer = self._bodies.answer(body)
        if answer is None:
            effects.counts["answer_dropped"] += 1
        else:
            self._builder.answer(answer, effects)

    def _unreadable(self, body: _Example, config_digest: str) -> str | None:
        """Return which needed configuration cannot be read: the record's, or one that state waits for."""
        if not self._runs.has(body.run_id, config_digest):
            return config_digest
        if not self._parked:
            return None
        found = map(self._parked.needs, example_prefixes(body.run_id, body.example_id))
        return next((configuration[1] for configuration in found if configuration), None)

    @override
    async def complete(self, effects: Effects) -> None:
        """Put down the state, and move the bodies of large groups to the artifact store."""
        self._builder.settle(effects)
        await self._bodies.move(effects)

    @override
    def gauges(self) -> dict[str, float]:
        oldest, due = self._builder.oldest_open, self._builder.next_deadline
        waiting = self._builder.waiting
        return {
            "open_turns": self._builder.open_turns,
            "parked_records": len(self._parked),
            "oldest_open_turn_time_seconds": 0.0 if oldest is None else oldest / 1000,
            "next_turn_deadline_seconds": 0.0 if due is None else due / 1000,
            "waiting_turns": len(waiting),
            "waiting_turn_bytes": waiting.size,
            "oldest_waiting_turn_time_seconds": (waiting.oldest or 0) / 1000,
        }

    @override
    def warnings(self) -> list[str]:
        return [*self._parked.warnings(), *map(_no_service, self._builder.waiting.without_service())]


def _configuration_of(record: Inbound) -> tuple[str, str | None]:
    """Return run and digest of the configuration that a record needs; no digest when it needs none."""
    return getattr(record.body, "run_id", ""), record.envelope.extensions.get("tsdigest")


def _unknown_run(run_id: str, config_digest: str) -> Refused:
    return Refused(
        "unknown_run",
        f"configuration {config_digest} of run {run_id!r} cannot be read; run `tunestream run apply` and "
        "replay",
    )


def _no_service(run_id: str) -> str:
    return (
        f"run {run_id}: turns wait for its reward function, and this deployment has no reward service; "
        "start one (turns that were asked about wait for it without end); new turns do without when their "
        "candidates are published with their scores, or ttc.score sends these"
    )
