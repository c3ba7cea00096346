"""Candidate → open turns → trajectory groups."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from typing_extensions import override

from tunestream.artifacts import ArtifactStore
from tunestream.domain.effects import Effects, Outbound, Refused
from tunestream.domain.parked import Parked
from tunestream.domain.turns.core import PairBuilder
from tunestream.domain.turns.partition_state import configuration_of, example_prefixes
from tunestream.events.scores import ScoreAnswer, ScoreAnswerRef
from tunestream.events.trajectories import TrajectoryGroupRef
from tunestream.events.ttc import EpisodeStep, ExampleEnd, Tick, TurnEnd
from tunestream.events.views.candidates import TurnView
from tunestream.streams.runs import RunDirectory
from tunestream.streams.tasks.handler import Handler, Inbound

__all__ = ["PairBuilderHandler"]

_BODIES: Final = (TurnView, TurnEnd, ExampleEnd, EpisodeStep, Tick)
_Example = TurnView | TurnEnd | ExampleEnd | EpisodeStep


class PairBuilderHandler(Handler):
    """One partition of ``ttc.candidates``."""

    def __init__(
        self, builder: PairBuilder, runs: RunDirectory, store: ArtifactStore, largest_group: int
    ) -> None:
        self._builder = builder
        self._runs = runs
        self._store = store
        self._largest_group = largest_group
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
        """Read the runs again when a record names a configuration that is not known."""
        if any(not self._known(record) for record in records):
            await self._runs.refresh_since(now)
        for key, value in self._parked.release(self._runs.has):
            self._builder.restore(key, value)

    def _known(self, record: Inbound) -> bool:
        config_digest = record.envelope.extensions.get("tsdigest")
        return config_digest is None or self._runs.has(getattr(record.body, "run_id", ""), config_digest)

    @override
    def handle(self, record: Inbound, effects: Effects) -> None:
        """Advance stream time, then take the record."""
        body, envelope = record.body, record.envelope
        if isinstance(body, ScoreAnswer | ScoreAnswerRef):  # to no request: none is sent
            effects.counts["unasked_answer"] += 1
            return
        assert isinstance(body, _BODIES)
        if envelope.time is None:
            raise Refused("schema.missing", "header ce_time is missing; stream time comes from it")
        config_digest = envelope.extensions.get("tsdigest", "")
        if not config_digest and not isinstance(body, Tick):
            raise Refused("schema.missing", "header ce_tsdigest is missing; the collector stamps it")
        if not isinstance(body, Tick) and (needed := self._unreadable(body, config_digest)) is not None:
            # Also what is refused is no silence: were it, a quiet turn beside it would wait for its end.
            self._builder.advance(envelope.time, effects)
            raise Refused(
                "unknown_run",
                f"configuration {needed} of run {body.run_id!r} cannot be read; run `tunestream run apply` "
                "and replay",
            )
        self._builder.handle(
            body,
            time=envelope.time,
            config_digest=config_digest,
            raw=record.value,
            effects=effects,
        )

    def _unreadable(self, body: _Example, config_digest: str) -> str | None:
        """Return which needed configuration cannot be read: the record's, or one that state waits for."""
        if not self._runs.has(body.run_id, config_digest):
            return config_digest
        prefixes = example_prefixes(body.run_id, body.example_id) if self._parked else ()
        found = map(self._parked.needs, prefixes)
        return next((configuration[1] for configuration in found if configuration), None)

    @override
    async def complete(self, effects: Effects) -> None:
        """Put down the state, and move the bodies of large groups to the artifact store."""
        self._builder.settle(effects)
        for output in effects.outbound:
            if not isinstance(output.body, Tick):
                output.payload = output.encoded()
                if len(output.payload) > self._largest_group:
                    await self._move(output, output.payload)

    async def _move(self, output: Outbound, payload: bytes) -> None:
        stored = await asyncio.to_thread(self._store.put_bytes, payload)
        output.body = TrajectoryGroupRef(
            run_id=output.key[0],
            group_id=output.id,
            uri=stored.uri,
            sha256=stored.sha256,
            size=stored.size,
        )
        output.payload = None

    @override
    def gauges(self) -> dict[str, float]:
        oldest, due = self._builder.oldest_open, self._builder.next_deadline
        return {
            "open_turns": self._builder.open_turns,
            "parked_records": len(self._parked),
            "oldest_open_turn_time_seconds": 0.0 if oldest is None else oldest / 1000,
            "next_turn_deadline_seconds": 0.0 if due is None else due / 1000,
        }

    @override
    def warnings(self) -> list[str]:
        return self._parked.warnings()
