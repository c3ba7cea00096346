"""What is to be thought of facts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tunestream.overview.deployment import Deployment, ServiceRecord
from tunestream.overview.facts import (
    BaseModelFacts,
    DiskFacts,
    LagFacts,
    RunFacts,
    ServerFacts,
    ServiceAnswer,
    ServicesFacts,
    StoreFacts,
)
from tunestream.overview.findings import Finding, State
from tunestream.overview.judge.machine import judge_disk, judge_packages, judge_store
from tunestream.overview.judge.services import how_to_start, judge_services, open_turns, two_partitioners
from tunestream.overview.judge.stream import judge_lag, judge_letters, judge_topics
from tunestream.overview.judge.training import judge_base_model, judge_jobs, judge_server
from tunestream.processes import ProcessRecord
from tunestream.streams.broker.groups import GroupLag
from tunestream.streams.broker.topic_plan import TopicAction, TopicChange
from tunestream.streams.letters.summary import ReasonCount

NOW = 1_767_323_045.0
NAMES = ("ttc_collector", "pair_builder", "curriculum_gate", "trainer")
AT_WORK = {"ttc-collector": 1, "pair-builder": 1, "curriculum-gate": 1, "trainer": 1}
NOBODY = dict.fromkeys(AT_WORK, 0)


def metrics(*opened: float, due: float = 0.0, turns: int = 3) -> str:
    samples = [
        f'tunestream_state{{name="{name}",partition="{n}",service="p"}} {at}'
        for n, moment in enumerate(opened)
        for name, at in (("oldest_open_turn_time_seconds", moment), ("next_turn_deadline_seconds", due))
    ]
    count = f'tunestream_state{{name="open_turns",partition="0",service="pair-builder"}} {turns}.0'
    return "\n".join(["# HELP tunestream_state What a partition's state looks like", *samples, count])


def url(name: str) -> str:
    return f"http://127.0.0.1:81{NAMES.index(name):02}"


def answer(name: str, **other: object) -> ServiceAnswer:
    found = ServiceAnswer(name, url(name), answers=True, ready=True, broker="b:1", prefix="p.")
    return replace(found, **other)  # type: ignore[arg-type]


def record(name: str, *restarts: float) -> ServiceRecord:
    process = ProcessRecord(1, 1.0)
    return ServiceRecord(name=name, url=url(name), log=f"{name}.log", process=process, restarts=restarts)


def deployment(*services: ServiceRecord, broker: str = "b:1") -> Deployment:
    process = ProcessRecord(77, 1.0)
    return Deployment(process=process, broker=broker, topic_prefix="p.", artifacts="a", services=services)


def judged(
    *answers: ServiceAnswer,
    here: Deployment | None = None,
    alive: bool = True,
    members: dict[str, int] | None = None,
) -> dict[str, list[Finding]]:
    members = AT_WORK if members is None else members
    facts = ServicesFacts("b:1", "p.", here, alive and here is not None, answers, members)
    found: dict[str, list[Finding]] = {}
    for finding in judge_services(facts, NOW):
        assert finding.remedy or finding.state is not State.FAIL, "what is wrong has a remedy"
        found.setdefault(finding.name, []).append(finding)
    return found


def failed(found: dict[str, list[Finding]]) -> dict[str, str]:
    return {name: one.text for name, all_ in found.items() for one in all_ if one.state is State.FAIL}


def test_a_deployment_at_work_is_fine() -> None:
    answers = [answer(name, metrics=metrics(NOW - 20)) for name in NAMES]
    found = judged(*answers, here=deployment(*map(record, NAMES)))
    assert not failed(found)
    assert found["open turns"][0].text == "3, the oldest for 20 s"


def test_no_service_at_all_is_one_finding() -> None:
    silent = [answer(name, answers=False) for name in NAMES]
    assert failed(judged(*silent, members=NOBODY)) == {"services": "no service answers"}


def test_another_deployment_at_the_usual_ports_is_not_taken_for_this_one() -> None:
    answers = [answer(name, prefix="other.") for name in NAMES]
    found = judged(*answers, members=NOBODY)
    assert failed(found) == {"services": "no service answers"}
    assert "belongs to another deployment: b:1, prefix 'other.'" in found["trainer"][0].text


def test_what_shows_no_deployment_counts_only_where_up_started_it() -> None:
    answers = [answer(name, broker=None, prefix=None) for name in NAMES]
    assert failed(judged(*answers, members=NOBODY)) == {"services": "no service answers"}
    assert not failed(judged(*answers, here=deployment(*map(record, NAMES)), members=NOBODY))


def test_services_on_other_machines_are_seen_by_the_broker() -> None:
    silent = [answer(name, answers=False) for name in NAMES]
    found = judged(*silent, members=AT_WORK | {"trainer": 0})
    assert failed(found) == {"trainer": "nobody runs it"}
    assert found["pair_builder"][0].text.startswith("1 at work")


def test_a_service_that_is_not_ready_is_shown_with_its_reasons() -> None:
    others = [answer(name) for name in NAMES[1:]]
    slow = answer("ttc_collector", ready=False, reasons=("partition 3: waits", "partition 1: waits"))
    found = failed(judged(slow, *others))
    assert found == {"ttc_collector": f"{url('ttc_collector')}: partition 3: waits; partition 1: waits"}


def test_a_warning_of_a_service_is_a_failure_of_something_else() -> None:
    warned = answer("trainer", warnings=("run r: http://s should serve m@1: no answer",))
    found = judged(*(answer(name) for name in NAMES[:3]), warned)
    ready, warning = found["trainer"]
    assert ready.state is State.OK
    assert (warning.state, warning.text) == (State.FAIL, "run r: http://s should serve m@1: no answer")
    assert "tunestream models serving" in warning.remedy


def test_a_service_of_this_folder_that_does_not_answer_is_named_with_its_log() -> None:
    answers = [answer(name, answers=name != "trainer") for name in NAMES]
    found = judged(*answers, here=deployment(*map(record, NAMES)))
    assert failed(found) == {"trainer": f"nothing answers at {url('trainer')}"}
    assert found["trainer"][0].remedy == "Read its log: trainer.log"


def test_services_that_up_runs_and_that_do_not_answer_are_named_one_by_one() -> None:
    here = deployment(record("trainer"), record("pair_builder"))
    found = failed(judged(here=here, members=NOBODY))
    assert found == {name: f"nothing answers at {url(name)}" for name in ("trainer", "pair_builder")}


def test_an_up_that_has_not_started_its_services_yet_is_not_started_again() -> None:
    found = judged(here=deployment(), members=NOBODY)
    assert failed(found) == {"services": "`tunestream up` has not started them yet"}


@pytest.mark.parametrize("servers", ["127.0.0.1:1", "other:2, localhost:1"])
def test_a_broker_has_more_than_one_name(servers: str) -> None:
    facts = ServicesFacts("localhost:1", "p.", None, False, (answer("trainer", broker=servers),), AT_WORK)
    found = next(one for one in judge_services(facts, NOW) if one.name == "trainer")
    assert found.state is State.OK


def test_what_up_was_not_asked_to_run_is_only_noted() -> None:
    found = judged(answer("ttc_collector"), here=deployment(record("ttc_collector")), members=NOBODY)
    assert not failed(found)
    assert found["trainer"][0].state is State.WARN
    assert (
        "beside a `tunestream up` of this folder: tunestream service run trainer"
        in found["trainer"][0].remedy
    )


@pytest.mark.parametrize(
    ("ages", "state"),
    [
        ((), None),
        ((5000.0, 4000.0, 3000.0), None),
        ((9.0,), State.WARN),
        ((300.0, 200.0, 9.0), State.FAIL),
        ((5000.0, 200.0, 9.0), State.WARN),
    ],
)
def test_a_service_that_keeps_dying_is_no_healthy_one(ages: tuple[float, ...], state: State | None) -> None:
    dying = record("ttc_collector", *(NOW - age for age in ages))
    found = judged(answer("ttc_collector"), here=deployment(dying))["ttc_collector"]
    assert [one.state for one in found[1:]] == ([] if state is None else [state])


def test_what_a_killed_up_left_is_named() -> None:
    found = judged(here=deployment(record("trainer")), alive=False, members=NOBODY)
    assert "process 77 was killed" in found["tunestream up"][0].text
    assert failed(found) == {"services": "no service answers"}


def test_looking_at_another_broker_than_this_folder_s_is_noted() -> None:
    found = judged(here=deployment(record("trainer"), broker="x:9"), members=NOBODY)
    assert found["tunestream up"][0].state is State.WARN
    assert "x:9" in found["tunestream up"][0].text


def test_no_open_turns() -> None:
    assert open_turns(metrics(0.0, turns=0), NOW).state is State.OK


def test_a_turn_that_never_times_out_is_stuck() -> None:
    finding = open_turns(metrics(NOW - 20, NOW - 3600, due=NOW - 1800), NOW)
    assert finding.state is State.FAIL
    assert "30 min longer than its run's time-out" in finding.text
    assert "ttc_collector" in finding.remedy


@pytest.mark.parametrize("due", [NOW + 3600, NOW - 30, 0.0], ids=["long time-out", "just due", "not shown"])
def test_a_turn_may_be_open_as_long_as_its_run_allows(due: float) -> None:
    finding = open_turns(metrics(NOW - 7200, due=due), NOW)
    assert (finding.state, finding.text) == (State.OK, "3, the oldest for 7200 s")


def lag(first: int, second: int, *, members: int = 1, handled: tuple[int, int] = (0, 0)) -> Finding:
    looks = [
        GroupLag("trainer", "training.batches", waiting, members, reached)
        for waiting, reached in zip((first, second), handled, strict=True)
    ]
    return judge_lag(LagFacts(looks[0], looks[1], 5.0))


def test_lag_is_fine_while_it_moves() -> None:
    assert lag(0, 0).state is State.OK
    assert lag(900, 950, handled=(10, 400)).state is State.OK
    assert lag(0, 7).state is State.OK, "it may have come just now"


def test_lag_without_progress_is_not() -> None:
    finding = lag(900, 900, handled=(10, 10))
    assert (finding.state, finding.text) == (
        State.FAIL,
        "900 records wait and none was handled within 5 s",
    )
    assert "trainer" in finding.remedy


def test_lag_with_nobody_at_work_names_who_is_missing() -> None:
    finding = lag(900, 900, members=0)
    assert (finding.state, finding.remedy) == (State.FAIL, how_to_start("trainer"))


def test_dead_letters_are_counted_by_reason_with_the_command_that_shows_them() -> None:
    refused = ReasonCount("ttc.events", "unknown_run", count=1236, replayed=2, first=1, last=2)
    (finding,) = judge_letters([refused])
    assert finding.state is State.FAIL
    assert finding.text == "1,234 refused within the last hour: unknown_run"
    assert finding.remedy == "tunestream dlq list --topic ttc.events --reason unknown_run --since 1h"
    assert [one.state for one in judge_letters([])] == [State.OK]
    assert [one.state for one in judge_letters([replace(refused, replayed=1236)])] == [State.OK]


def test_topics_that_differ_are_named() -> None:
    keep = TopicChange("a", TopicAction.KEEP, partitions=4)
    create = TopicChange("b", TopicAction.CREATE, partitions=4)
    assert [one.state for one in judge_topics([keep])] == [State.OK]
    (finding,) = judge_topics([keep, create])
    assert (finding.name, finding.state, finding.remedy) == ("topic b", State.FAIL, "tunestream topics apply")


def test_failed_jobs_are_named_with_the_latest_one() -> None:
    (fine,) = judge_jobs([RunFacts("r", ())])
    assert fine.state is State.OK
    (finding,) = judge_jobs([RunFacts("q", ()), RunFacts("r", (("j1", "one"), ("j2", "no GPU")))])
    assert (finding.name, finding.remedy) == ("jobs of r", "tunestream jobs logs j2")
    assert finding.text == "2 failed since one was completed, the latest j2: no GPU"


def test_a_base_model_that_is_missing_matters_where_the_trainer_is() -> None:
    missing = BaseModelFacts("r", "m", "there is no folder m", is_here=True)
    assert judge_base_model(missing).state is State.FAIL
    assert judge_base_model(replace(missing, is_here=False)).state is State.WARN
    assert judge_base_model(replace(missing, problem=None)).state is State.OK


def test_a_model_server_that_does_not_follow() -> None:
    behind = ServerFacts("r", "http://s", "vllm", 3, "m@3", (), in_sync=False, problem="does not list m@3")
    finding = judge_server(behind)
    assert (finding.state, finding.name) == (State.FAIL, "model server http://s")
    assert "tunestream models serving r" in finding.remedy
    assert judge_server(replace(behind, in_sync=True, problem=None)).state is State.OK
    assert judge_server(replace(behind, in_sync=None, problem="no version yet")).state is State.OK


@pytest.mark.parametrize(("free", "state"), [(10, State.OK), (9, State.FAIL)])
def test_a_disk_needs_a_tenth_of_its_room(free: int, state: State) -> None:
    assert judge_disk(DiskFacts("/", free, 100)).state is state


def test_a_store_that_cannot_be_written() -> None:
    assert judge_store(StoreFacts("a", None)).state is State.OK
    finding = judge_store(StoreFacts("a", "permission denied"))
    assert finding.state is State.FAIL
    assert "TUNESTREAM_ARTIFACTS" in finding.remedy


def test_packages() -> None:
    assert [one.state for one in judge_packages("aiokafka 1", [])] == [State.OK]
    assert [one.text for one in judge_packages("", ["x is missing"])] == ["x is missing"]


def by_partitioner(run: str, **counts: int) -> str:
    return "".join(
        f'tunestream_events_by_partitioner_total{{partitioner="{name}",run="{run}"}} {count}.0\n'
        for name, count in counts.items()
    )


def test_a_run_whose_events_come_by_two_partitioners_is_named() -> None:
    metrics = (
        "# TYPE tunestream_events_by_partitioner_total counter\n"
        + by_partitioner("a", murmur2=7)
        + by_partitioner("b", murmur2=7, crc32=3)
        + by_partitioner("c", murmur2=1, crc32=1, other=5)
        + by_partitioner("d", murmur2=7, crc32=0)
    )
    (finding,) = two_partitioners(metrics)
    assert finding.state is State.WARN
    assert "run 'b'" in finding.text
    assert finding.remedy


def test_no_partitioner_is_no_finding() -> None:
    assert not list(two_partitioners(""))
