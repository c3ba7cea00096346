"""What the model servers of this replica's runs are for."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from tunestream.config.settings import KafkaSettings
from tunestream.events.keys import encode_key
from tunestream.events.models import CurrentModel, ModelVersion
from tunestream.serving import Target, targets
from tunestream.streams.broker.metadata import partition_count
from tunestream.streams.runs import RunDirectory
from tunestream.streams.tasks.encoding import partition_for
from tunestream_services.trainer.models import ModelDirectory

__all__ = ["OwnedRuns"]


class OwnedRuns:
    """The promoted versions of the runs whose partitions this replica has.

    They are read from the topics, not from the ledger: a server gets nothing that may still be taken back.

    Args:
        kafka: the broker.
        runs: configurations; entered before this.
        models: versions and pointers; entered before this.
    """

    def __init__(self, kafka: KafkaSettings, runs: RunDirectory, models: ModelDirectory) -> None:
        self.changed = asyncio.Event()
        self._kafka = kafka
        self._runs = runs
        self._models = models
        self._owners: dict[int, object] = {}
        self._partitions = 0

    async def __aenter__(self) -> Self:
        self._partitions = await partition_count(self._kafka, self._kafka.topic("training.batches"))
        for table in (self._runs, self._models):
            table.watch(self.changed.set)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._owners.clear()

    def own(self, partition: int, owner: object) -> None:
        """Take up the runs of a partition."""
        self._owners[partition] = owner
        self.changed.set()

    def disown(self, partition: int, owner: object) -> None:
        """Let go of the runs of a partition, unless a new owner has it already."""
        if self._owners.get(partition) is owner:
            del self._owners[partition]
            self.changed.set()

    def targets(self) -> Iterator[Target]:
        """Return what each server of these runs is for."""
        pointers: list[CurrentModel] = []
        versions: dict[str, dict[str, ModelVersion]] = defaultdict(dict)
        for model in self._models.values():
            if isinstance(model, ModelVersion):
                versions[model.run_id][model.version] = model
            elif partition_for(encode_key(model.run_id), self._partitions) in self._owners:
                pointers.append(model)
        for pointer in pointers:
            config = self._runs.current(pointer.run_id)
            if config is not None:
                yield from targets(config, pointer, versions[pointer.run_id])
