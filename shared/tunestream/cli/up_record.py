"""What ``tunestream up`` runs, shown in ``up.json`` of its folder for as long as it runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tunestream.cli.errors import Failure
from tunestream.cli.service_processes import RunningService
from tunestream.cli.supervisor import Supervisor
from tunestream.config.settings import KafkaSettings
from tunestream.overview.deployment import (
    UP_FILE,
    Deployment,
    ServiceRecord,
    UnreadableDeployment,
    read_deployment,
    remove_deployment,
    write_deployment,
)
from tunestream.processes import ProcessRecord

__all__ = ["UpRecord", "check_alone"]


class UpRecord:
    """The record of this process, there while the block is open.

    Args:
        data: the folder of ``up``.
        kafka: the broker and the topics' prefix.
        artifacts: the artifact store.
    """

    def __init__(self, data: Path, kafka: KafkaSettings, artifacts: str) -> None:
        self._path = data / UP_FILE.name
        self._deployment = Deployment(
            process=ProcessRecord.of(os.getpid()),
            broker=kafka.bootstrap_servers,
            topic_prefix=kafka.topic_prefix,
            artifacts=artifacts,
        )

    def __enter__(self) -> Self:
        write_deployment(self._path, self._deployment)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        remove_deployment(self._path, self._deployment.process)

    def update(self, sites: Sequence[RunningService], supervisor: Supervisor) -> None:
        """Write which processes run now."""
        services = tuple(_service(site, supervisor) for site in sites)
        write_deployment(self._path, self._deployment.model_copy(update={"services": services}))


def _service(site: RunningService, supervisor: Supervisor) -> ServiceRecord:
    name = site.process.name
    return ServiceRecord(
        name=name,
        url=site.url,
        log=str(site.process.log),
        process=ProcessRecord.look_up(supervisor.pid(name)),
        restarts=supervisor.restarts(name),
    )


def check_alone(data: Path) -> None:
    """Check that no other ``up`` runs on a folder.

    Raises:
        Failure: when one does, naming it.
    """
    try:
        found = read_deployment(data / UP_FILE.name)
    except UnreadableDeployment:
        return  # it is written again
    if found is not None and found.process.is_alive:
        raise Failure(
            f"`tunestream up` runs on {data} already: process {found.process.pid}, broker {found.broker}",
            remedy="Use it (see tunestream doctor), stop it, or choose another folder: --data DIR",
        )
