"""Candidate → open turns → trajectory groups."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from typing_extensions import override

from tunestream.artifacts import ArtifactStore
from tunestream.domain.effects import Effects, Emission, Refused
from tunestream.domain.turns.core import PairBuilder
from tunestream.events.trajectories import TrajectoryGroup, TrajectoryGroupRef
from tunestream.events.ttc import CandidateStep, EpisodeStep, ExampleEnd, Tick, TurnEnd
from tunestream.streams.decoding import original_time
from tunestream.streams.handler import Handler, Inbound
from tunestream.streams.runs import RunDirectory

__all__ = ["PairBuilderHandler"]

_BODIES: Final = (CandidateStep, TurnEnd, ExampleEnd, EpisodeStep, Tick)


class PairBuilderHandler(Handler):
    """One partition of ``ttc.candidates``."""

    def __init__(
        self, builder: PairBuilder, runs: RunDirectory, store: ArtifactStore, largest_group: int
    ) -> None:
        self._builder = builder
        self._runs = runs
        self._store = store
        self._largest_group = largest_group

    @override
    def restore(self, key: bytes, value: bytes) -> None:
        self._builder.restore(key, value)

    @override
    async def prepare(self, records: Sequence[Inbound], now: float) -> None:
        """Read the runs again when a record names a configuration that is not known."""
        del now
        if any(not self._known(record) for record in records):
            await self._runs.refresh()

    def _known(self, record: Inbound) -> bool:
        digest = record.envelope.extensions.get("tsdigest")
        return digest is None or self._runs.has(getattr(record.body, "run_id", ""), digest)

    @override
    def handle(self, record: Inbound, effects: Effects) -> None:
        """Advance the run's stream time, then take the record."""
        body, envelope = record.body, record.envelope
        assert isinstance(body, _BODIES)
        if envelope.time is None:
            raise Refused("schema.missing", "header ce_time is missing; stream time comes from it")
        digest = envelope.extensions.get("tsdigest", "")
        if not digest and not isinstance(body, Tick):
            raise Refused("schema.missing", "header ce_tsdigest is missing; the collector stamps it")
        self._builder.handle(
            body,
            time=envelope.time,
            digest=digest,
            raw=record.value,
            effects=effects,
            original_time=original_time(envelope),
        )

    @override
    async def complete(self, effects: Effects) -> None:
        """Move the bodies of large groups to the artifact store."""
        for emission in effects.emissions:
            if isinstance(emission.body, TrajectoryGroup):
                emission.payload = emission.body.to_json()
                if len(emission.payload) > self._largest_group:
                    await self._move(emission, emission.body, emission.payload)

    async def _move(self, emission: Emission, group: TrajectoryGroup, payload: bytes) -> None:
        stored = await asyncio.to_thread(self._store.put_bytes, payload)
        emission.body = TrajectoryGroupRef(
            run_id=group.run_id,
            group_id=group.group_id,
            uri=stored.uri,
            sha256=stored.sha256,
            size=stored.size,
        )
        emission.payload = None

    @override
    def gauges(self) -> dict[str, float]:
        oldest = self._builder.oldest_open
        return {
            "open_turns": self._builder.open_turns,
            "oldest_open_turn_time_seconds": 0.0 if oldest is None else oldest / 1000,
        }
