"""Two processes with one replica number: the later one finds out, and ends.

They share one static member's place in the group. The broker gives it to the one that joined last and drops
the other one, which joins again. So the process that is dropped soon after its start is the later one; the
earlier one joins again and keeps the place.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from tunestream.config.settings import ServiceSettings
from tunestream.streams.broker.administration import administration
from tunestream.streams.tasks.plan import Plan
from tunestream.streams.watch import metrics

__all__ = ["ReplicaTaken", "Replicas"]

log = structlog.get_logger(__name__)
# So many session time-outs after its start a process is the earlier one: by then it was dropped, if at all.
_YOUNG_SESSIONS: Final = 3
_ASK_SECONDS: Final = 5.0
_SHOWN_SECONDS: Final = 600.0


class ReplicaTaken(Exception):
    """Another process has this replica number."""


class Replicas:
    """Watches whether this process is alone with its replica number.

    Args:
        plan: of the service.
        settings: of this replica.
    """

    def __init__(self, plan: Plan, settings: ServiceSettings) -> None:
        self._plan = plan
        self._settings = settings
        self._client_id = f"{plan.group}-{settings.replica}"
        self._began = monotonic()
        self._member: str | None = None
        self._found: tuple[float, str] | None = None  # when another process was found, and what it is

    def joined(self, consumer: AIOKafkaConsumer) -> None:
        """Note under which name the group knows this process."""
        self._member = _member_of(consumer)

    async def check(self, consumer: AIOKafkaConsumer) -> None:
        """Find out, before the group is joined again, whether another process has taken our place.

        Raises:
            ReplicaTaken: when one has, and this process is the later one.
        """
        if self._member is None or _member_of(consumer) or not await self._is_taken():
            return
        what = (
            f"another process of {self._plan.group} runs with TUNESTREAM_REPLICA={self._settings.replica}; "
            "give each replica its own number, or stop the other process"
        )
        metrics.REPLICA_CONFLICTS.labels(self._plan.service).inc()
        self._found = (monotonic(), what)
        young = monotonic() - self._began < _YOUNG_SESSIONS * self._settings.session_timeout_seconds
        if young:
            raise ReplicaTaken(what)
        log.error("replica.shared", message=f"{what}; the later one ends")

    def warnings(self) -> list[str]:
        """Return that another process was found, for ten minutes."""
        if self._found is None or monotonic() - self._found[0] > _SHOWN_SECONDS:
            return []
        return [f"{self._found[1]}; the later one ends"]

    async def _is_taken(self) -> bool:
        try:
            async with asyncio.timeout(_ASK_SECONDS), administration(self._plan.kafka) as admin:
                (described,) = await admin.describe_consumer_groups([self._plan.group])
        except (KafkaError, OSError, TimeoutError):
            return False  # it is found out the next time
        members = described.to_object()["groups"][0]["members"]
        ours = {member["member_id"] for member in members if member["client_id"] == self._client_id}
        return bool(ours - {self._member})


def _member_of(consumer: AIOKafkaConsumer) -> str:
    """Return a member's name; empty when the group has dropped it. The client shows it nowhere else."""
    return str(consumer._coordinator.member_id)  # noqa: SLF001
