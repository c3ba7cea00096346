"""Choosing among jobs."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.batches import batch
from tunestream.domain.jobs import lifecycle
from tunestream.domain.jobs.scheduling import next_job, overflowing, policy_lag
from tunestream.events.models import Artifact, ModelStatus, ModelVersion
from tunestream.events.training import JobRecord

START = datetime(2026, 1, 1, tzinfo=UTC)


def job(run: str, number: int) -> JobRecord:
    return lifecycle.create(batch(run, number), backend="trl", now=START + timedelta(seconds=number)).record


def lineage(*links: tuple[str, str | None]) -> dict[str, ModelVersion]:
    return {
        name: ModelVersion(
            run_id="run",
            version=name,
            number=1,
            base_model="base",
            artifact=Artifact(uri="artifact://trees/a", sha256="a", kind="adapter"),
            parent=parent,
            job_id="job",
            batch_id="batch",
            config_digest="digest",
            status=ModelStatus.PROMOTED,
            created=START,
        )
        for name, parent in links
    }


@given(sizes=st.dictionaries(st.sampled_from("abcd"), st.integers(1, 5), min_size=1))
def test_every_run_gets_its_turn_and_keeps_its_order(sizes: dict[str, int]) -> None:
    waiting = [job(run, number) for run, size in sizes.items() for number in range(size)]
    served: dict[str, int] = {}
    order: list[JobRecord] = []
    while chosen := next_job(waiting, served=served):
        order.append(chosen)
        served[chosen.run_id] = len(order)
        waiting.remove(chosen)
    for run, size in sizes.items():
        assert [one.batch.epoch for one in order if one.run_id == run] == list(range(size))
    for first, second in itertools.pairwise(order):
        others = {one.run_id for one in order[order.index(second) :]} - {first.run_id}
        assert second.run_id != first.run_id or not others


def test_nothing_waits() -> None:
    finished = lifecycle.cancel(job("a", 0), code="c", message="m", now=START).record
    assert next_job([finished], served={}) is None


def test_a_broken_attempt_goes_before_the_runs_older_waiting_job() -> None:
    broken = lifecycle.start(job("a", 5), parent_version=None, now=START).record
    assert next_job([job("a", 1), broken], served={}) == broken


def test_the_newest_waiting_jobs_of_each_run_stay() -> None:
    waiting = [job("a", 2), job("a", 0), job("b", 0), job("a", 1)]
    running = lifecycle.start(job("a", 9), parent_version=None, now=START).record
    assert overflowing([*waiting, running], max_queued=1) == [job("a", 0), job("a", 1)]
    assert overflowing(waiting, max_queued=0) == [job("a", 0), job("a", 1), job("a", 2), job("b", 0)]
    assert overflowing(waiting, max_queued=None) == []


def test_lag_counts_parent_links_to_the_oldest_version() -> None:
    versions = lineage(("v1", None), ("v2", "v1"), ("v3", "v2"))
    assert policy_lag(batch("run", 0, ["v3"]), "v3", versions) == 0
    assert policy_lag(batch("run", 0, ["v2", "v3"]), "v3", versions) == 1
    assert policy_lag(batch("run", 0, ["base", "v3"]), "v3", versions) == 3
    assert policy_lag(batch("run", 0), "v3", versions) == 0
    assert policy_lag(batch("run", 0, ["base"]), None, {}) == 0


def test_lag_of_another_branch_counts_to_the_fork() -> None:
    versions = lineage(("v1", None), ("v2", "v1"), ("bad", "v1"), ("worse", "bad"))
    assert policy_lag(batch("run", 0, ["worse"]), "v2", versions) == 1


def test_a_run_without_room_waits_and_is_not_overtaken_by_its_own_later_job() -> None:
    local, remote = job("a", 0), job("a", 1).model_copy(update={"backend": "elsewhere"})
    other = job("b", 2).model_copy(update={"backend": "elsewhere"})
    room_elsewhere = lambda one: one.backend == "elsewhere"  # noqa: E731
    assert next_job([local, remote, other], served={"b": 1}, may_run=room_elsewhere) == other
    assert next_job([local, remote], served={}, may_run=room_elsewhere) is None
