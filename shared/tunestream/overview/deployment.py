"""``up.json``: what ``tunestream up`` runs, in the folder of its data; there only while it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, ValidationError

from tunestream.processes import ProcessRecord

__all__ = [
    "UP_FILE",
    "Deployment",
    "ServiceRecord",
    "UnreadableDeployment",
    "read_deployment",
    "remove_deployment",
    "write_deployment",
]

UP_FILE: Final = Path(".tunestream/up.json")


class UnreadableDeployment(Exception):
    """An ``up.json`` is damaged, or of a release that writes another."""


class ServiceRecord(BaseModel):
    """A service that ``up`` keeps running.

    Attributes:
        name: of its package, with underscores.
        url: of its HTTP side.
        log: the file that takes its output.
        process: as it runs now; None when it has died and is not started again yet.
        restarts: when it was started again, seconds since the epoch, the latest last.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    url: str
    log: str
    process: ProcessRecord | None
    restarts: tuple[float, ...] = ()


class Deployment(BaseModel):
    """What one ``tunestream up`` runs.

    Attributes:
        process: of the command.
        broker: bootstrap servers.
        topic_prefix: of topics, groups and transactional ids.
        artifacts: the artifact store.
        services: those that were started, none before they are.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    process: ProcessRecord
    broker: str
    topic_prefix: str
    artifacts: str
    services: tuple[ServiceRecord, ...] = ()


def read_deployment(path: Path = UP_FILE) -> Deployment | None:
    """Return what is or was run from a folder; None when nothing is, or all was ended in order.

    Its process may be gone: one that was killed leaves the file behind.

    Raises:
        UnreadableDeployment: when the file makes no sense.
    """
    try:
        return Deployment.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, one['loc']))} {one['msg']}" for one in error.errors())
        raise UnreadableDeployment(f"{path} is damaged or of another release: {problems}") from error


def write_deployment(path: Path, deployment: Deployment) -> None:
    """Write the file whole; a reader sees the one before or this one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid4().hex}")
    draft.write_text(deployment.model_dump_json(indent=2), encoding="utf-8")
    draft.replace(path)


def remove_deployment(path: Path, process: ProcessRecord) -> None:
    """Remove the file that ``process`` wrote; another's stays."""
    found = read_deployment(path)
    if found is not None and found.process == process:
        path.unlink(missing_ok=True)
