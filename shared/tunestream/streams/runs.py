"""The runs that exist: the ``runs`` topic as configurations by (run, digest)."""

from __future__ import annotations

import time
from functools import partial

from pydantic import BaseModel

from tunestream.config.run.run import RunConfig
from tunestream.config.run.trainers import TrainerReading
from tunestream.config.settings import KafkaSettings
from tunestream.events.cloudevents import Envelope
from tunestream.events.ids import stable_id
from tunestream.events.keys import CURRENT, encode_key
from tunestream.events.registry import type_of
from tunestream.events.runs import RunPointer, RunRecord
from tunestream.streams.publish import EncodedRecord, event_record, write_together
from tunestream.streams.table import Table

__all__ = ["RunDirectory", "apply_run"]

_Entry = RunConfig | RunPointer


async def apply_run(settings: KafkaSettings, config: RunConfig, *, source: str) -> None:
    """Make a configuration the one that new turns of its run open with; ``source`` as in CloudEvents."""
    pointer = RunPointer(run_id=config.run_id, digest=config.digest)
    records = [
        _encoded(config.to_record(), config.digest, source),
        _encoded(pointer, CURRENT, source),
    ]
    await write_together(settings, f"run-apply-{config.run_id}", records)


def _encoded(body: RunRecord | RunPointer, last: str, source: str) -> EncodedRecord:
    envelope = Envelope(
        id=stable_id("run", body.run_id, body.digest, last),
        type=type_of(body),
        source=source,
        time=time.time_ns() // 1_000_000,
    )
    return event_record("runs", (body.run_id, last), body.to_json(), envelope)


class RunDirectory(Table[_Entry]):
    """Looks up the configuration of runs; follows the ``runs`` topic while entered.

    Args:
        settings: the broker.
        trainer: how trainer sections are read; only who trains needs more than their common keys.
    """

    def __init__(self, settings: KafkaSettings, *, trainer: TrainerReading = "opaque") -> None:
        super().__init__(settings, "runs", partial(_entry, trainer))

    def current_digest(self, run_id: str) -> str | None:
        """Return the digest that new turns of a run open with, None when the run is unknown."""
        pointer = self.get(encode_key(run_id, CURRENT))
        return pointer.digest if isinstance(pointer, RunPointer) else None

    def config(self, run_id: str, digest: str) -> RunConfig:
        """Return a run's configuration of that digest.

        Raises:
            KeyError: when the run has no such configuration.
        """
        found = self.get(encode_key(run_id, digest))
        if not isinstance(found, RunConfig):
            raise KeyError(f"run {run_id} has no configuration {digest}")
        return found

    def has(self, run_id: str, digest: str) -> bool:
        """Return whether a run's configuration of that digest was read."""
        return isinstance(self.get(encode_key(run_id, digest)), RunConfig)

    def current(self, run_id: str) -> RunConfig | None:
        """Return the configuration that new turns of a run open with, None when there is none."""
        digest = self.current_digest(run_id)
        if digest is None:
            return None
        found = self.get(encode_key(run_id, digest))
        return found if isinstance(found, RunConfig) else None

    def all_current(self) -> list[RunConfig]:
        """Return the configuration that new turns open with, of each run."""
        names = [entry.run_id for entry in self.values() if isinstance(entry, RunPointer)]
        return [config for name in names if (config := self.current(name)) is not None]


def _entry(trainer: TrainerReading, body: BaseModel) -> _Entry:
    if isinstance(body, RunRecord):
        return RunConfig.from_record(body, trainer=trainer)
    assert isinstance(body, RunPointer)
    return body
