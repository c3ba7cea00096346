"""What is known of a deployment, as it was read; what is to be thought of it is in ``judge``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tunestream.overview.deployment import Deployment
from tunestream.streams.broker.groups import GroupLag

__all__ = [
    "BaseModelFacts",
    "DiskFacts",
    "LagFacts",
    "RunFacts",
    "ServerFacts",
    "ServiceAnswer",
    "ServicesFacts",
    "StoreFacts",
]


@dataclass(frozen=True, slots=True)
class ServiceAnswer:
    """What one address answers.

    Attributes:
        name: of the service that should answer there, with underscores.
        url: the address.
        answers: whether anything did.
        ready: whether it is at work.
        reasons: why it is not.
        warnings: what it warns of.
        broker: which broker it works with; None where it does not show that, as older releases do not.
        prefix: of its topics; also None there.
        metrics: in Prometheus' text form.
    """

    name: str
    url: str
    answers: bool
    ready: bool = False
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    broker: str | None = None
    prefix: str | None = None
    metrics: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class ServicesFacts:
    """The services of a deployment.

    Attributes:
        broker: of the deployment that is looked at.
        prefix: of its topics.
        here: what ``tunestream up`` runs, or ran when it was killed, in this folder.
        alive: whether it still runs.
        answers: of the addresses that were asked.
        members: processes at work anywhere, by service; as the broker has it.
    """

    broker: str
    prefix: str
    here: Deployment | None
    alive: bool
    answers: tuple[ServiceAnswer, ...]
    members: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class LagFacts:
    """How far a service is behind on one input, in two looks that are ``seconds`` apart."""

    first: GroupLag
    second: GroupLag
    seconds: float


@dataclass(frozen=True, slots=True)
class RunFacts:
    """A run that was applied.

    Attributes:
        run_id: the run.
        failed: jobs that failed and that no completed one followed, the latest last: id and message.
    """

    run_id: str
    failed: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class BaseModelFacts:
    """The base model of a run.

    Attributes:
        run_id: the run.
        name: a folder, or a name on the Hugging Face hub.
        problem: why it cannot be loaded here, None when its files are there.
        is_here: whether the run's trainer works on this machine.
    """

    run_id: str
    name: str
    problem: str | None
    is_here: bool


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a model server of a run answers with.

    Attributes:
        run_id: the run.
        server: its URL.
        kind: of server.
        number: of the promoted version; None when there is none.
        desired: the name under which the promoted version is asked.
        listed: names of the run that it lists.
        in_sync: whether it answers with the promoted version; None when none is promoted.
        problem: why not.
    """

    run_id: str
    server: str
    kind: str
    number: int | None
    desired: str | None
    listed: tuple[str, ...]
    in_sync: bool | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """The artifact store: where it is, and why it cannot be written, None when it can."""

    url: str
    problem: str | None


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """A disk that the deployment writes to; sizes in bytes."""

    folder: str
    free: int
    total: int
