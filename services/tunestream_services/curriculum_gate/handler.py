"""Trajectory groups → windows → training batches."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from pydantic import TypeAdapter
from typing_extensions import override

from tunestream.artifacts import ArtifactStore, put_rows
from tunestream.domain.effects import Effects, Outbound, Refused
from tunestream.domain.gate.core import CurriculumGate, configuration_of
from tunestream.domain.gate.selected_window import SelectedWindow
from tunestream.domain.parked import Parked
from tunestream.events.ids import batch_id, stable_id
from tunestream.events.training import TrainingBatch
from tunestream.events.trajectories import TrajectoryGroup, TrajectoryGroupRef
from tunestream.events.ttc import Tick
from tunestream.streams.runs import RunDirectory
from tunestream.streams.tasks.handler import Handler, Inbound, TaskContext

__all__ = ["GateHandler"]

_stored_group: TypeAdapter[TrajectoryGroup | TrajectoryGroupRef] = TypeAdapter(
    TrajectoryGroup | TrajectoryGroupRef
)


_LONGEST_PARTITION: Final = 10  # digits


class GateHandler(Handler):
    """One partition of ``trajectories``."""

    def __init__(
        self, gate: CurriculumGate, runs: RunDirectory, store: ArtifactStore, deadline: float
    ) -> None:
        self._gate = gate
        self._runs = runs
        self._store = store
        self._deadline = deadline
        self._restored: list[tuple[bytes, bytes]] = []
        self._parked = Parked()
        self._fetched: dict[str, TrajectoryGroup] = {}
        self._selected: list[SelectedWindow] = []

    @override
    def restore(self, key: bytes, value: bytes) -> None:
        self._restored.append((key, value))

    @override
    async def start(self, context: TaskContext) -> None:
        """Give the state to the gate, with the bodies of large groups in their place."""
        del context
        for key, value in self._restored:
            await self._take_back(key, value)
        self._restored.clear()

    async def _take_back(self, key: bytes, value: bytes) -> None:
        """Give a record to the gate; a group whose run's configuration cannot be read waits."""
        configuration = configuration_of(key)
        if configuration is None or self._runs.has(*configuration):
            self._gate.restore(key, await self._whole(key, value))
        else:
            self._parked.keep(configuration, key, value)

    async def _whole(self, key: bytes, value: bytes) -> bytes:
        if not key.startswith(b"group/"):
            return value
        stored = _stored_group.validate_json(value, extra="ignore")
        return await self._fetch(stored) if isinstance(stored, TrajectoryGroupRef) else value

    async def _fetch(self, ref: TrajectoryGroupRef) -> bytes:
        async with asyncio.timeout(self._deadline):
            return await asyncio.to_thread(self._store.get_bytes, ref.uri, ref.sha256)

    @override
    async def prepare(self, records: Sequence[Inbound], now: float) -> None:
        """Fetch the bodies of large groups; read the runs again when a configuration is not known."""
        self._fetched.clear()
        for record in records:
            if isinstance(record.body, TrajectoryGroupRef):
                body = await self._fetch(record.body)
                self._fetched[record.body.group_id] = TrajectoryGroup.of_service(body)
        if any(not self._known(record) for record in records):
            await self._runs.refresh_since(now)
        for key, value in self._parked.release(self._runs.has):
            self._gate.restore(key, await self._whole(key, value))

    def _known(self, record: Inbound) -> bool:
        body = self._body(record)
        return isinstance(body, Tick) or self._runs.has(body.run_id, body.config_digest)

    def _body(self, record: Inbound) -> TrajectoryGroup | Tick:
        body = record.body
        if isinstance(body, TrajectoryGroupRef):
            return self._fetched[body.group_id]
        assert isinstance(body, TrajectoryGroup | Tick)
        return body

    @override
    def handle(self, record: Inbound, effects: Effects) -> None:
        """Advance stream time, close the windows that are due, take the group."""
        if record.envelope.time is None:
            raise Refused("schema.missing", "header ce_time is missing; stream time comes from it")
        body = self._body(record)
        if isinstance(body, TrajectoryGroup) and not self._runs.has(body.run_id, body.config_digest):
            raise Refused(
                "unknown_run",
                f"run {body.run_id!r} has no configuration {body.config_digest}; run `tunestream run apply`",
            )
        self._selected += self._gate.handle(
            body, time=record.envelope.time, raw=record.value, effects=effects, origin=_origin(record)
        )

    @override
    async def complete(self, effects: Effects) -> None:
        """Store the datasets of the selected windows, then emit their batches."""
        selected, self._selected = self._selected, []
        for window in selected:
            async with asyncio.timeout(self._deadline):
                effects.outbound.append(await self._to_batch(window))

    async def _to_batch(self, window: SelectedWindow) -> Outbound:
        train = await asyncio.to_thread(put_rows, self._store, window.train)
        validation = (
            await asyncio.to_thread(put_rows, self._store, window.validation) if window.validation else None
        )
        parts = [train.sha256, validation.sha256 if validation else ""]
        if window.state_digest is not None:
            parts.append(window.state_digest)
        contents = stable_id("dataset", *parts)
        batch = TrainingBatch(
            run_id=window.run_id,
            batch_id=batch_id(window.run_id, window.config_digest, window.epoch, contents),
            config_digest=window.config_digest,
            objective=window.objective,
            epoch=window.epoch,
            train=train,
            validation=validation,
            groups=window.groups,
            dropped=window.dropped,
            curriculum=window.curriculum,
            policy_versions=window.policy_versions,
            unversioned_rows=window.unversioned_rows,
        )
        return Outbound(
            topic="training.batches",
            body=batch,
            id=batch.batch_id,
            time=window.time,
            key=(window.run_id,),
            extensions={"tsdigest": window.config_digest},
        )

    @override
    def gauges(self) -> dict[str, float]:
        return {"open_groups": self._gate.open_groups, "parked_records": len(self._parked)}

    @override
    def warnings(self) -> list[str]:
        return self._parked.warnings()


def _origin(record: Inbound) -> int | None:
    """Return the partition of ``ttc.candidates`` that a group comes from, None when it is not named."""
    written = record.envelope.extensions.get("tspartition")
    if written is None:
        return None
    if not (written.isascii() and written.isdigit() and len(written) <= _LONGEST_PARTITION):
        raise Refused(
            "schema.value",
            f"header ce_tspartition is {written!r}; write the partition of ttc.candidates as a number",
        )
    return int(written)
