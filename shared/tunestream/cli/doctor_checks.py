"""What ``tunestream doctor`` looks at; every finding that is bad names its remedy."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Final

import httpx
from packaging.requirements import Requirement

from tunestream.cli.service_processes import package_of, port_of
from tunestream.config.settings import KafkaSettings
from tunestream.streams.admin import diff_topics
from tunestream.streams.groups import GroupLag, group_lags
from tunestream.streams.topic_plan import TopicAction, TopicChange
from tunestream.topics import SERVICES

__all__ = ["Check", "check_lag", "check_packages", "check_services", "check_topics", "stuck_turns"]

INPUTS: Final = {
    "ttc-collector": ("ttc.events",),
    "pair-builder": ("ttc.candidates",),
    "curriculum-gate": ("trajectories",),
    "trainer": ("training.batches", "training.control"),
}
# A turn's time-out is half a minute by default; ten minutes of silence are nobody's intention.
_STUCK_SECONDS: Final = 600.0
_HTTP_SECONDS: Final = 2.0
_SHOWN: Final = ("tunestream", "aiokafka", "pydantic", "faststream", "torch", "transformers", "trl", "peft")


@dataclass(frozen=True, slots=True)
class Check:
    """One finding; ``ok`` is None where nothing could be found out."""

    name: str
    ok: bool | None
    finding: str
    remedy: str = ""


def check_packages() -> list[Check]:
    """Compare what is installed with what tunestream was made for; extras that are absent are fine."""
    shown = ", ".join(f"{name} {found}" for name in _SHOWN if (found := _installed(name)))
    wrong = list(_wrong_packages(requires("tunestream") or ()))
    if not wrong:
        return [Check("packages", True, shown)]
    return [
        Check("packages", False, problem, "Install with the project's constraints.txt") for problem in wrong
    ]


def _wrong_packages(requirements: Iterable[str]) -> Iterator[str]:
    for text in requirements:
        wanted = Requirement(text)
        found = _installed(wanted.name)
        if found is None:
            if wanted.marker is None:
                yield f"{wanted.name} is not installed; {wanted} is needed"
        elif not wanted.specifier.contains(found, prereleases=True):
            yield f"{wanted.name} {found} is installed; {wanted.name}{wanted.specifier} is needed"


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


async def check_topics(settings: KafkaSettings) -> list[Check]:
    """Compare the broker's topics with the catalogue.

    Raises:
        BrokerUnavailableError: when no broker answers.
    """
    plan = await diff_topics(settings)
    broker = Check("broker", True, f"answers at {settings.bootstrap_servers}")
    wrong = [_topic(change) for change in plan if change.action is not TopicAction.KEEP]
    return [broker, *(wrong or [Check("topics", True, f"all {len(plan)} are as in the catalogue")])]


def _topic(change: TopicChange) -> Check:
    if change.action is TopicAction.REFUSE:
        return Check(f"topic {change.name}", False, change.reason or "", change.remedy or "")
    finding = "is missing" if change.action is TopicAction.CREATE else "has other settings"
    return Check(f"topic {change.name}", False, finding, "tunestream topics apply")


async def check_lag(settings: KafkaSettings) -> list[Check]:
    """Compare how far each service is behind, and whether a replica works at it."""
    return [_lag(found) for found in await group_lags(settings, INPUTS)]


def _lag(found: GroupLag) -> Check:
    name = f"{found.service} on {found.topic}"
    if found.lag and not found.members:
        only = found.service.replace("-", "_")
        return Check(
            name, False, f"{found.lag:,} records wait and nobody works", f"tunestream up --only {only}"
        )
    return Check(name, True, f"{found.lag:,} records behind, {found.members} at work")


async def check_services() -> list[Check]:
    """Ask the services of this machine, at the ports of ``tunestream up``, whether they are ready."""
    async with httpx.AsyncClient(timeout=_HTTP_SECONDS) as client:
        found = []
        for service in SERVICES:
            found += await _service(client, package_of(service), f"http://127.0.0.1:{port_of(service)}")
        return found


async def _service(client: httpx.AsyncClient, name: str, url: str) -> list[Check]:
    try:
        ready = await client.get(f"{url}/health/ready")
        metrics = (await client.get(f"{url}/metrics", follow_redirects=True)).text
    except httpx.HTTPError:
        return [Check(name, None, f"does not run here: nothing answers at {url}")]
    ok = ready.status_code == httpx.codes.OK
    reasons = "ready" if ok else "; ".join(map(str, ready.json()["reasons"]))
    check = Check(name, ok, f"{url}: {reasons}", "" if ok else f"Read its log, and {url}/health/ready")
    remedy = "Read its log; for a model server: tunestream models serving"
    warned = [Check(name, False, text, remedy) for text in ready.json().get("warnings", [])]
    return [check, *warned, *([] if name != "pair_builder" else stuck_turns(metrics, time.time()))]


def stuck_turns(metrics: str, now: float) -> list[Check]:
    """Find turns that are open for too long.

    Args:
        metrics: of a pair builder, in Prometheus' text form.
        now: seconds since the epoch.
    """
    opened = [value for value in _samples(metrics, "oldest_open_turn_time_seconds") if value > 0]
    turns = int(sum(_samples(metrics, "open_turns")))
    age = max((now - moment for moment in opened), default=0.0)
    if age <= _STUCK_SECONDS:
        return [Check("open turns", True, f"{turns}, the oldest for {max(age, 0.0):.0f} s")]
    finding = f"{turns}, the oldest for {age / 60:.0f} min: its time-out does not come"
    remedy = "Only the collector writes ticks when agents are silent: tunestream up --only ttc_collector"
    return [Check("open turns", False, finding, remedy)]


def _samples(metrics: str, state: str) -> list[float]:
    lines = (line for line in metrics.splitlines() if line.startswith("tunestream_state{"))
    return [float(line.rsplit(" ", 1)[1]) for line in lines if f'name="{state}"' in line]
