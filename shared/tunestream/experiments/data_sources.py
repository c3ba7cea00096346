"""What the arms of an experiment are fed with; a stream is read once for all of them."""

from __future__ import annotations

import asyncio
from typing import Any

from tunestream.config.experiment.experiment import Config
from tunestream.config.settings import KafkaSettings
from tunestream.events.groups import PreferenceGroup
from tunestream.events.ids import content_digest
from tunestream.events.trajectories import TrajectoryGroup
from tunestream.experiments.sources import fingerprint, read_groups

__all__ = ["DataSources"]


class DataSources:
    """Data of configurations.

    Args:
        kafka: the broker, for data from a stream; by default the one that the environment names.
    """

    def __init__(self, kafka: KafkaSettings | None) -> None:
        self._kafka = kafka
        self._groups: dict[str, list[TrajectoryGroup | PreferenceGroup]] = {}

    async def fingerprint(self, config: Config) -> dict[str, Any]:
        """Return what distinguishes the data from other data, and read it when it is a stream.

        Raises:
            StageFailed: when there is none.
        """
        stream = config.data.stream
        if stream is None:
            return await asyncio.to_thread(fingerprint, config.data)
        name = stream.model_dump_json()
        if name not in self._groups:
            kafka = self._kafka or KafkaSettings()
            self._groups[name] = [group async for group in read_groups(stream, kafka)]
        bodies = b"\n".join(group.to_json() for group in self._groups[name])
        return {"groups": content_digest(bodies)}

    def groups(self, config: Config) -> list[TrajectoryGroup | PreferenceGroup] | None:
        """Return the trajectories of a stream whose fingerprint was taken, None for other data."""
        stream = config.data.stream
        return self._groups[stream.model_dump_json()] if stream else None
