"""The runs that exist: the ``runs`` topic as configurations by (run, digest)."""

from __future__ import annotations

import time
from functools import partial
from typing import Final

from pydantic import BaseModel
from typing_extensions import override

from tunestream.config.run.run import RunConfig
from tunestream.config.run.trainers import TrainerReading
from tunestream.config.settings import KafkaSettings
from tunestream.events.base import Wire
from tunestream.events.cloudevents import Envelope
from tunestream.events.ids import stable_id
from tunestream.events.keys import CURRENT, encode_key
from tunestream.events.registry import type_of
from tunestream.events.runs import (
    FIRST_FORMAT,
    FORMAT,
    FORMAT_KEY,
    FormatRecord,
    NewerFormat,
    RunPointer,
    RunRecord,
)
from tunestream.streams.atomic import write_together
from tunestream.streams.publish import EncodedRecord, EventProducer, event_record
from tunestream.streams.table import Table

__all__ = ["RunDirectory", "apply_run", "write_format"]

_Entry = RunConfig | RunPointer | FormatRecord
_FORMAT: Final = encode_key(FORMAT_KEY)
_OLDEST: Final = FormatRecord(format=FIRST_FORMAT)


async def apply_run(settings: KafkaSettings, config: RunConfig, *, source: str) -> None:
    """Make a configuration the one that new turns of its run open with; ``source`` as in CloudEvents."""
    pointer = RunPointer(run_id=config.run_id, digest=config.digest)
    records = [
        _encoded(body, (config.run_id, last), (config.run_id, config.digest, last), source)
        for body, last in ((config.to_record(), config.digest), (pointer, CURRENT))
    ]
    await write_together(settings, f"run-apply-{config.run_id}", records)


async def write_format(
    settings: KafkaSettings, number: int, *, source: str, reward_service: bool = False
) -> None:
    """Have the services of a deployment write format ``number`` from now on.

    Args:
        settings: the broker.
        number: of the format.
        source: as in CloudEvents.
        reward_service: whether something answers the requests for scores.
    """
    body = FormatRecord(format=number, reward_service=reward_service)
    record = _encoded(body, (FORMAT_KEY,), (FORMAT_KEY, str(number)), source)
    async with EventProducer(settings) as producer:  # without a transaction: several may write it at once
        await producer.send(record)


def _encoded(body: Wire, key: tuple[str, ...], identity: tuple[str, ...], source: str) -> EncodedRecord:
    envelope = Envelope(
        id=stable_id("run", *identity),
        type=type_of(body),
        source=source,
        time=time.time_ns() // 1_000_000,
    )
    return event_record("runs", key, body.to_json(), envelope)


class RunDirectory(Table[_Entry]):
    """Looks up the configuration of runs; follows the ``runs`` topic while entered.

    Args:
        settings: the broker.
        trainer: how trainer sections are read; only who trains needs more than their common keys.
    """

    def __init__(self, settings: KafkaSettings, *, trainer: TrainerReading = "opaque") -> None:
        super().__init__(settings, "runs", partial(_entry, trainer))

    @override
    def _remove(self, key: bytes) -> None:
        """Forget what a tombstone is for, but no configuration: state that it opened ends with it."""
        if not isinstance(self.get(key), RunConfig):
            super()._remove(key)

    @property
    def format(self) -> int:
        """What the services of this deployment write: this release's format or the one before.

        Raises:
            NewerFormat: when a later release has finished its upgrade.
        """
        number = self._format.format
        if number > FORMAT:
            raise NewerFormat(
                f"this deployment writes format {number}, and this release reads formats up to {FORMAT}: "
                "install the release that finished the upgrade, or a later one"
            )
        return number

    @property
    def reward_service(self) -> bool:
        """Whether something in this deployment answers the requests for scores."""
        return self._format.reward_service

    @property
    def _format(self) -> FormatRecord:
        found = self.get(_FORMAT)
        return found if isinstance(found, FormatRecord) else _OLDEST

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
    assert isinstance(body, RunPointer | FormatRecord)
    return body
