"""The whole examination of a deployment: what ``tunestream doctor`` shows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tunestream.config.settings import KafkaSettings
from tunestream.overview.deployment import Deployment
from tunestream.overview.facts import LagFacts
from tunestream.overview.findings import Finding, State
from tunestream.overview.judge.machine import judge_disk, judge_packages, judge_store
from tunestream.overview.judge.services import judge_services
from tunestream.overview.judge.stream import judge_lag, judge_letters, judge_topics
from tunestream.overview.judge.training import judge_base_model, judge_jobs, judge_server
from tunestream.overview.read.base_models import read_base_models
from tunestream.overview.read.machine import read_disks, read_store
from tunestream.overview.read.packages import installed_packages, wrong_packages
from tunestream.overview.read.runs import read_configs, read_ledger, run_facts
from tunestream.overview.read.services import read_services
from tunestream.overview.read.serving import read_servers
from tunestream.overview.read.stream import read_lags
from tunestream.streams.admin import diff_topics
from tunestream.streams.broker.unavailable import BrokerUnavailable
from tunestream.streams.broker.version import broker_version
from tunestream.streams.errors import in_words, is_unavailable, is_users_fault
from tunestream.streams.letters.reading import Choice
from tunestream.streams.letters.summary import summary

__all__ = ["Examination", "Site", "examine"]

_RECENT_SECONDS: Final = 3600.0
_LETTERS_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Site:
    """What is examined, and from where.

    Attributes:
        kafka: the broker and the topics' prefix.
        artifacts: the artifact store.
        here: what ``tunestream up`` runs, or ran when it was killed, in this folder.
        usual: where services listen when nobody recorded it: name → URL.
        look_seconds: between two looks at what waits.
    """

    kafka: KafkaSettings
    artifacts: str
    here: Deployment | None
    usual: Mapping[str, str]
    look_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found.

    Attributes:
        findings: in the order in which one part needs the other.
        away: whether no broker answers.
    """

    findings: list[Finding]
    away: bool = False

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return all(finding.state is not State.FAIL for finding in self.findings)


async def examine(site: Site) -> Examination:
    """Look at everything, and change nothing; a few seconds."""
    machine = [*judge_packages(installed_packages(), list(wrong_packages())), *await _machine(site)]
    try:
        topics = judge_topics(await diff_topics(site.kafka))
    except BrokerUnavailable as error:
        broker = Finding.fail("broker", error.problem, error.remedy)
        return Examination([*machine, broker, *await _services(site, {})], away=True)
    version = await broker_version(site.kafka) or "Kafka of a version that it does not show"
    broker = Finding.ok("broker", f"{version} answers at {site.kafka.bootstrap_servers}")
    findings = [*machine, broker, *topics]
    if any(finding.state is State.FAIL for finding in topics):
        return Examination([*findings, *await _services(site, {})])
    lags, lag_findings = await _lags(site)
    members = {fact.second.service: fact.second.members for fact in lags}
    findings += await _services(site, members)
    findings += lag_findings
    findings += await _looked_at("dead letters", lambda: _letters(site))
    findings += await _looked_at("runs", lambda: _runs(site))
    return Examination(findings)


async def _machine(site: Site) -> list[Finding]:
    store = await asyncio.to_thread(read_store, site.artifacts)
    folders = [Path(".tunestream")]
    if "://" not in site.artifacts:
        folders.append(Path(site.artifacts))
    return [judge_store(store), *map(judge_disk, read_disks(folders))]


async def _services(site: Site, members: Mapping[str, int]) -> list[Finding]:
    return judge_services(await read_services(site.kafka, site.here, site.usual, members), time.time())


async def _lags(site: Site) -> tuple[list[LagFacts], list[Finding]]:
    lags: list[LagFacts] = []

    async def look() -> Iterable[Finding]:
        lags.extend(await read_lags(site.kafka, site.look_seconds))
        return map(judge_lag, lags)

    return lags, await _looked_at("lag", look)


async def _letters(site: Site) -> list[Finding]:
    since = int((time.time() - _RECENT_SECONDS) * 1000)
    async with asyncio.timeout(_LETTERS_SECONDS):
        return judge_letters(await summary(site.kafka, Choice(since=since)))


async def _runs(site: Site) -> list[Finding]:
    configs = await read_configs(site.kafka)
    ledger = await read_ledger(site.kafka)
    models, servers = await asyncio.gather(
        read_base_models(configs, is_here=_trains_here(site)), read_servers(configs, ledger)
    )
    return [
        *judge_jobs(run_facts(configs, ledger)),
        *map(judge_base_model, models),
        *map(judge_server, servers),
    ]


def _trains_here(site: Site) -> bool:
    here = site.here
    return here is not None and any(record.name == "trainer" for record in here.services)


async def _looked_at(name: str, look: Callable[[], Awaitable[Iterable[Finding]]]) -> list[Finding]:
    """Return the findings of a part, or that it cannot be read: the other parts are shown all the same."""
    try:
        return list(await look())
    except Exception as error:
        of_broker = is_unavailable(error) or is_users_fault(error)
        if not of_broker and not isinstance(error, TimeoutError | ValueError):
            raise
        remedy = "Read the logs of the broker and of the services"
        return [Finding.fail(name, f"cannot be read: {in_words(error)}", remedy)]
