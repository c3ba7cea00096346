"""Trajectory groups → windows → training batches."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from typing_extensions import override

from tunestream.artifacts import ArtifactStore
from tunestream.domain.effects import Effects, Outbound, Refused
from tunestream.domain.gate.bodies import Arrival, arrival_of, read_group, reference_in
from tunestream.domain.gate.closed_window import ClosedWindow
from tunestream.domain.gate.core import CurriculumGate, configuration_of
from tunestream.domain.parked import Parked
from tunestream.events.ids import batch_id, stable_id
from tunestream.events.runs import TURN_FORMAT
from tunestream.events.training import DatasetFile, TrainingBatch
from tunestream.events.trajectories import TrajectoryGroup, TrajectoryGroupRef
from tunestream.events.ttc import Tick
from tunestream.events.views.groups import PreferenceGroupView
from tunestream.events.windows import CurriculumWindow
from tunestream.streams.runs import RunDirectory
from tunestream.streams.tasks.handler import Handler, Inbound, TaskContext
from tunestream_services.curriculum_gate.bodies import Bodies
from tunestream_services.curriculum_gate.datasets import WindowDataset

__all__ = ["GateHandler"]

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
        self._bodies = Bodies(store, deadline)
        self._fetched: dict[str, Arrival | Refused] = {}
        self._closed: list[ClosedWindow] = []

    @override
    def restore(self, key: bytes, value: bytes) -> None:
        self._restored.append((key, value))

    @override
    async def start(self, context: TaskContext) -> None:
        """Give the state to the gate, with the bodies of large groups in their place."""
        del context
        restored, self._restored = self._restored, []
        await self._take_back(restored)

    async def _take_back(self, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Give records to the gate; a group whose run's configuration cannot be read waits."""
        refs: dict[bytes, TrajectoryGroupRef] = {}
        for key, value in records:
            configuration = configuration_of(key)
            if configuration is not None and not self._runs.has(*configuration):
                self._parked.keep(configuration, key, value)
            elif configuration is not None and (ref := reference_in(value)) is not None:
                refs[key] = ref
            else:
                self._gate.restore(key, value)
        for key, group in (await self._bodies.each(refs, _arrival)).items():
            if isinstance(group, Refused):
                raise group
            self._gate.restore(key, refs[key].to_json(), group)

    @override
    async def prepare(self, records: Sequence[Inbound], now: float) -> None:
        """Fetch the bodies of large groups; read the runs again when a configuration is not known."""
        refs = {one.body.group_id: one.body for one in records if type(one.body) is TrajectoryGroupRef}
        self._fetched = await self._bodies.each(refs, _arrival) if refs else {}
        if any(not self._known(record) for record in records):
            await self._runs.refresh_since(now)
        await self._take_back(self._parked.release(self._runs.has))

    def _known(self, record: Inbound) -> bool:
        body = record.body
        # Views first: what is no pydantic class is found out slowly, by its metaclass.
        if isinstance(body, PreferenceGroupView):
            return self._runs.has(body.run_id, body.config_digest)
        if isinstance(body, TrajectoryGroupRef):
            found = self._fetched[body.group_id]
            return isinstance(found, Refused) or self._runs.has(found.run_id, found.config_digest)
        assert isinstance(body, TrajectoryGroup | Tick)
        return isinstance(body, Tick) or self._runs.has(body.run_id, body.config_digest)

    def _event(self, record: Inbound) -> Arrival | Tick:
        body = record.body
        if isinstance(body, PreferenceGroupView | TrajectoryGroup):
            return arrival_of(body)
        if isinstance(body, Tick):
            return body
        assert isinstance(body, TrajectoryGroupRef)
        found = self._fetched[body.group_id]
        if isinstance(found, Refused):
            raise found
        return found

    @override
    def handle(self, record: Inbound, effects: Effects) -> None:
        """Advance stream time, close the windows that are due, take the group."""
        if record.envelope.time is None:
            raise Refused("schema.missing", "header ce_time is missing; stream time comes from it")
        event = self._event(record)
        if isinstance(event, Arrival) and not self._runs.has(event.run_id, event.config_digest):
            raise Refused(
                "unknown_run",
                f"run {event.run_id!r} has no configuration {event.config_digest}; "
                "run `tunestream run apply`",
            )
        self._closed += self._gate.handle(
            event,
            time=record.envelope.time,
            raw=record.value,
            effects=effects,
            origin=_origin(record),
            stored=type(record.body) is TrajectoryGroupRef,
        )

    @override
    async def complete(self, effects: Effects) -> None:
        """Store the datasets of the closed windows, then publish their batches and what became of them."""
        closed, self._closed = self._closed, []
        for window in closed:
            batch, reason = await self._batch(window)
            if batch is not None:
                effects.outbound.append(_outbound(window, batch, batch.batch_id))
            if reason is not None:
                effects.counts[reason] += 1
            if self._runs.format >= TURN_FORMAT:
                record = window.record(None if batch is None else batch.batch_id, reason)
                name = stable_id("window", window.run_id, window.config_digest, str(window.epoch))
                effects.outbound.append(_outbound(window, record, name))

    async def _batch(self, window: ClosedWindow) -> tuple[TrainingBatch | None, str | None]:
        """Return a window's batch, or why it makes none."""
        with WindowDataset(self._store) as dataset:
            await dataset.fill(window, self._bodies, self._deadline)
            async with asyncio.timeout(self._deadline):
                files = await asyncio.to_thread(dataset.finish)
            if files is None:
                return None, "empty_selection" if dataset.empty else "all_held_out"
            return _batch_of(window, dataset, *files), None

    @override
    def gauges(self) -> dict[str, float]:
        return {"open_groups": self._gate.open_groups, "parked_records": len(self._parked)}

    @override
    def warnings(self) -> list[str]:
        return self._parked.warnings()


def _arrival(body: bytes) -> Arrival | Refused:
    try:
        return arrival_of(read_group(body))
    except Refused as refusal:
        return refusal


def _batch_of(
    window: ClosedWindow, dataset: WindowDataset, train: DatasetFile, validation: DatasetFile | None
) -> TrainingBatch:
    parts = [train.sha256, validation.sha256 if validation else ""]
    if window.state_digest is not None:
        parts.append(window.state_digest)
    contents = stable_id("dataset", *parts)
    return TrainingBatch(
        run_id=window.run_id,
        batch_id=batch_id(window.run_id, window.config_digest, window.epoch, contents),
        config_digest=window.config_digest,
        objective=window.objective,
        epoch=window.epoch,
        train=train,
        validation=validation,
        groups=len(window.selected),
        dropped=window.dropped,
        curriculum=window.curriculum,
        policy_versions=sorted(dataset.policy_versions),
        unversioned_rows=dataset.unversioned,
    )


def _outbound(window: ClosedWindow, body: TrainingBatch | CurriculumWindow, name: str) -> Outbound:
    return Outbound(
        topic="training.batches",
        body=body,
        id=name,
        time=window.time,
        key=(window.run_id,),
        extensions={"tsdigest": window.config_digest},
    )


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
