"""Where an operator looks: readiness, metrics, log and ``doctor``."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from tunestream.config.settings import KafkaSettings
from tunestream.overview.facts import ServicesFacts
from tunestream.overview.findings import State
from tunestream.overview.judge.services import judge_services
from tunestream.overview.read.services import ask

__all__ = ["Fault", "Shown", "assert_named", "doctor_of", "is_above_zero", "listening", "until_named"]

_SECONDS: Final = 90


@dataclass(frozen=True)
class Shown:
    """What an operator sees.

    Attributes:
        health: reasons and warnings of readiness.
        metrics: in Prometheus' text form.
        log: of the service.
        doctor: names, findings and remedies of what is not well.
    """

    health: str
    metrics: str
    log: str
    doctor: str


@dataclass(frozen=True)
class Fault:
    """A fault, and the pattern by which each place names it; None where it is not looked for.

    Attributes:
        health: among reasons and warnings.
        metric: of a sample that is above 0.
        log: of a line.
        doctor: of a finding that is not well.
    """

    health: str | None
    metric: str
    log: str
    doctor: str


def assert_named(shown: Shown, fault: Fault) -> None:
    """Make sure that every place names a fault."""
    missing = _missing(shown, fault)
    assert not missing, "\n".join(
        f"{place} does not show it: {text[-4000:]}" for place, text in missing.items()
    )


def _missing(shown: Shown, fault: Fault) -> Mapping[str, str]:
    named = {
        "health": fault.health is None or re.search(fault.health, shown.health),
        "metrics": is_above_zero(fault.metric, shown.metrics),
        "log": any(re.search(fault.log, line) for line in shown.log.splitlines()),
        "doctor": re.search(fault.doctor, shown.doctor),
    }
    return {place: vars(shown)[place] for place, is_named in named.items() if not is_named}


def is_above_zero(pattern: str, metrics: str) -> bool:
    """Return whether a sample that a pattern finds is above 0."""
    samples = (line for line in metrics.splitlines() if not line.startswith("#"))
    return any(float(line.rsplit(" ", 1)[1]) > 0 for line in samples if re.search(pattern, line))


async def until_named(
    client: httpx.AsyncClient,
    kafka: KafkaSettings,
    log: list[str] | Path,
    fault: Fault,
    name: str = "pair_builder",
) -> None:
    """Wait until every place names a fault of the service behind a client.

    Args:
        client: of its HTTP side.
        kafka: its broker.
        log: its lines, as they come; or its file.
        fault: what is to be named.
        name: of its package.
    """
    missing: Mapping[str, str] = {}
    try:
        async with asyncio.timeout(_SECONDS):
            while missing := _missing(await _look(client, kafka, log, name), fault):  # noqa: ASYNC110
                await asyncio.sleep(0.1)  # nothing tells when a service has noticed
    except TimeoutError:
        raise AssertionError(f"not everybody names it: {missing}") from None


async def _look(client: httpx.AsyncClient, kafka: KafkaSettings, log: list[str] | Path, name: str) -> Shown:
    report = (await client.get("/health/ready")).json()
    return Shown(
        health="\n".join([*report["reasons"], *report["warnings"]]),
        metrics=(await client.get("/metrics", follow_redirects=True)).text,
        log=_text_of(log),
        doctor=await doctor_of(client, kafka, name),
    )


def _text_of(log: list[str] | Path) -> str:
    return log.read_text() if isinstance(log, Path) else "\n".join(log)


async def doctor_of(client: httpx.AsyncClient, kafka: KafkaSettings, name: str) -> str:
    """Return what doctor finds wrong with the service behind a client."""
    answer = await ask(client, name, str(client.base_url).rstrip("/"))
    facts = ServicesFacts(kafka.bootstrap_servers, kafka.topic_prefix, None, False, (answer,), {})
    wrong = [one for one in judge_services(facts, time.time()) if one.state is State.FAIL]
    return "\n".join(f"{one.name}: {one.text} → {one.remedy}" for one in wrong)


@contextmanager
def listening() -> Iterator[list[str]]:
    """Yield the log lines of the package in this process, as JSON."""
    lines: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if isinstance(record.msg, dict):
                lines.append(json.dumps(_plain(record.msg), default=repr))

    collector = Collector()
    logging.getLogger("tunestream").addHandler(collector)
    try:
        yield lines
    finally:
        logging.getLogger("tunestream").removeHandler(collector)


def _plain(line: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if not name.startswith("_")}
