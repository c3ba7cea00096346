"""Services: whose they are, whether they are at work, and whether they stay so."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Final

from tunestream.overview.deployment import ServiceRecord
from tunestream.overview.facts import ServiceAnswer, ServicesFacts
from tunestream.overview.findings import Finding
from tunestream.topics import SERVICES

__all__ = ["how_to_start", "judge_services", "open_turns", "two_partitioners"]

# So many starts within ten minutes are no accident.
_WINDOW_SECONDS: Final = 600.0
_KEEPS_DYING: Final = 3
# Ticks come every ten seconds at least, and the broker's clock may be a minute off this machine's.
_LATE_SECONDS: Final = 120.0
_BY_PARTITIONER: Final = "tunestream_events_by_partitioner_total"
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def judge_services(facts: ServicesFacts, now: float) -> list[Finding]:
    """Return how the services of a deployment are.

    Args:
        facts: of the services.
        now: seconds since the epoch.
    """
    findings = list(_up(facts))
    records = {record.name: record for record in _records(facts)}
    others = [answer for answer in facts.answers if answer.answers and not _is_ours(answer, facts, records)]
    findings += [_other(answer) for answer in others]
    ours = {answer.name: answer for answer in facts.answers if answer not in others}
    if (
        not records
        and not any(answer.answers for answer in ours.values())
        and not any(facts.members.values())
    ):
        return [*findings, _nobody(facts)]
    for service in SERVICES:
        name = service.replace("-", "_")
        members = facts.members.get(service, 0)
        findings += _service(name, ours.get(name), members, records.get(name), started=bool(records))
        if name in records:
            findings += _restarts(records[name], now)
        if name == "pair_builder" and name in ours and ours[name].ready:
            findings.append(open_turns(ours[name].metrics, now))
        if name == "ttc_collector" and name in ours:
            findings += two_partitioners(ours[name].metrics)
    return findings


def _records(facts: ServicesFacts) -> tuple[ServiceRecord, ...]:
    return facts.here.services if facts.here is not None and facts.alive else ()


def how_to_start(name: str) -> str:
    """Return how one service is started; a second `tunestream up` on a folder is refused."""
    return (
        f"tunestream up --only {name}; beside a `tunestream up` of this folder: tunestream service run {name}"
    )


def _nobody(facts: ServicesFacts) -> Finding:
    if facts.here is not None and facts.alive:
        return Finding.fail("services", "`tunestream up` has not started them yet", "Look again in a moment")
    return Finding.fail("services", "no service answers", "tunestream up")


def _up(facts: ServicesFacts) -> Iterator[Finding]:
    if facts.here is None:
        return
    here = facts.here
    if not facts.alive:
        text = f"process {here.process.pid} was killed, and .tunestream/up.json is left of it"
        yield Finding.warn("tunestream up", text, "tunestream up")
    elif (here.broker, here.topic_prefix) != (facts.broker, facts.prefix):
        text = (
            f"this folder's works with {_place(here.broker, here.topic_prefix)}; "
            f"looked at is {_place(facts.broker, facts.prefix)}"
        )
        yield Finding.warn("tunestream up", text, "Without KAFKA_BOOTSTRAP_SERVERS and --brokers it is found")
    else:
        yield Finding.ok("tunestream up", f"process {here.process.pid} runs this folder's deployment")


def _place(broker: str, prefix: str) -> str:
    return f"{broker}, prefix {prefix!r}"


def _is_ours(answer: ServiceAnswer, facts: ServicesFacts, records: Mapping[str, ServiceRecord]) -> bool:
    if answer.broker is None:  # it may be anything, but where `up` started it
        return answer.name in records
    return answer.prefix == facts.prefix and not _addresses(answer.broker).isdisjoint(
        _addresses(facts.broker)
    )


def _addresses(servers: str) -> set[str]:
    """Return what a list of servers names; one in common is enough, and this machine has two names."""
    return {server.strip().replace("localhost:", "127.0.0.1:") for server in servers.split(",")}


def _other(answer: ServiceAnswer) -> Finding:
    if answer.broker is None:
        return Finding.warn(answer.name, f"{answer.url} answers, but not with the deployment it belongs to")
    place = _place(answer.broker, answer.prefix or "")
    return Finding.warn(answer.name, f"{answer.url} belongs to another deployment: {place}")


def _service(
    name: str, answer: ServiceAnswer | None, members: int, record: ServiceRecord | None, *, started: bool
) -> Iterator[Finding]:
    if answer is not None and answer.answers:
        yield from _answered(answer, record)
    elif record is not None:
        yield Finding.fail(name, f"nothing answers at {record.url}", f"Read its log: {record.log}")
    elif members:
        yield Finding.ok(name, f"{members} at work; no address of this machine answers")
    elif started:
        yield Finding.warn(name, "`tunestream up` does not run it", how_to_start(name))
    else:
        yield Finding.fail(name, "nobody runs it", f"tunestream up, or tunestream service run {name}")


def _answered(answer: ServiceAnswer, record: ServiceRecord | None) -> Iterator[Finding]:
    log = "its log" if record is None else record.log
    if answer.ready:
        yield Finding.ok(answer.name, f"{answer.url}: ready")
    else:
        text = f"{answer.url}: {'; '.join(answer.reasons) or 'not ready'}"
        yield Finding.fail(answer.name, text, f"Read {log}, and {answer.url}/health/ready")
    for warning in answer.warnings:
        yield Finding.fail(answer.name, warning, f"Read {log}; for a model server: tunestream models serving")


def _restarts(record: ServiceRecord, now: float) -> Iterator[Finding]:
    count = sum(now - moment < _WINDOW_SECONDS for moment in record.restarts)
    if count:
        times = "once" if count == 1 else f"{count} times"
        text = f"died and was started again {times} within {_WINDOW_SECONDS / 60:.0f} min"
        make = Finding.fail if count >= _KEEPS_DYING else Finding.warn
        yield make(record.name, text, f"Read its log: {record.log}")


def open_turns(metrics: str, now: float) -> Finding:
    """Find turns that are open for longer than the time-out of their run.

    Args:
        metrics: of a pair builder, in Prometheus' text form.
        now: seconds since the epoch.
    """
    states = [(labels["name"], value) for labels, value in _samples(metrics, "tunestream_state")]
    opened = [value for name, value in states if name == "oldest_open_turn_time_seconds" and value > 0]
    due = [value for name, value in states if name == "next_turn_deadline_seconds" and value > 0]
    turns = int(sum(value for name, value in states if name == "open_turns"))
    age = max((now - moment for moment in opened), default=0.0)
    late = max((now - moment for moment in due), default=0.0)
    if late <= _LATE_SECONDS:
        return Finding.ok("open turns", f"{turns}, the oldest for {max(age, 0.0):.0f} s")
    text = f"{turns}, one of them for {late / 60:.0f} min longer than its run's time-out"
    remedy = "Only the collector writes ticks when agents are silent: " + how_to_start("ttc_collector")
    return Finding.fail("open turns", text, remedy)


def _samples(metrics: str, name: str) -> Iterator[tuple[dict[str, str], float]]:
    """Yield the labels and the value of each series of a metric."""
    for line in metrics.splitlines():
        if line.startswith(f"{name}{{"):
            labels, value = line.rsplit(" ", 1)
            yield dict(_LABEL.findall(labels)), float(value)


def two_partitioners(metrics: str) -> Iterator[Finding]:
    """Find runs whose examples may lie in two partitions, where nothing can join their turns.

    A client that chooses partitions by itself now and then agrees with either partitioner: it is no finding.

    Args:
        metrics: of a collector, in Prometheus' text form.
    """
    seen: dict[str, set[str]] = defaultdict(set)
    for labels, value in _samples(metrics, _BY_PARTITIONER):
        if value:
            seen[labels["run"]].add(labels["partitioner"])
    for run, partitioners in sorted(seen.items()):
        if partitioners == {"murmur2", "crc32"}:
            text = (
                f"events of run {run!r} come by two partitioners: turns with events of both are torn in two"
            )
            remedy = (
                "Have all agents of the run use one: librdkafka's partitioner=murmur2_random is Kafka's own"
            )
            yield Finding.warn("partitioners", text, remedy)
