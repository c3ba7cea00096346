"""What the doctor makes of what it sees."""

from __future__ import annotations

import json

import httpx
import pytest

from tunestream.cli import doctor_checks
from tunestream.cli.doctor_checks import check_packages, stuck_turns

NOW = 1_767_323_045.0


def metrics(*opened: float, turns: int = 3) -> str:
    samples = [
        f'tunestream_state{{name="oldest_open_turn_time_seconds",partition="{n}",service="p"}} {at}'
        for n, at in enumerate(opened)
    ]
    count = f'tunestream_state{{name="open_turns",partition="0",service="pair-builder"}} {turns}.0'
    return "\n".join(["# HELP tunestream_state What a partition's state looks like", *samples, count])


def test_open_turns_are_fine() -> None:
    (check,) = stuck_turns(metrics(NOW - 20, 0.0), NOW)
    assert check.ok
    assert check.finding == "3, the oldest for 20 s"


def test_no_open_turns() -> None:
    (check,) = stuck_turns(metrics(0.0, turns=0), NOW)
    assert check.ok


def test_a_turn_that_never_times_out_is_stuck() -> None:
    (check,) = stuck_turns(metrics(NOW - 20, NOW - 3600), NOW)
    assert check.ok is False
    assert "60 min" in check.finding
    assert "ttc_collector" in check.remedy


def test_the_packages_of_this_project_fit() -> None:
    (check,) = check_packages()
    assert check.ok, check.finding
    assert "aiokafka" in check.finding


def test_wrong_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = ["pydantic>=99", "no-such-package>=1", 'no-such-extra>=1; extra == "x"', "typer>=0.1"]
    monkeypatch.setattr(doctor_checks, "requires", lambda _: needed)
    problems = [check.finding for check in check_packages()]
    assert len(problems) == 2
    assert problems[0].endswith("pydantic>=99 is needed")
    assert problems[1].startswith("no-such-package is not installed")


async def test_what_a_trainer_warns_of_is_told() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        told = {"ok": True, "reasons": [], "warnings": ["run r: http://s should serve m@1: no answer"]}
        return httpx.Response(200, text=json.dumps(told) if request.url.path.endswith("ready") else "")

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        ready, warning = await doctor_checks._service(client, "trainer", "http://trainer")
    assert ready.ok
    assert warning.ok is False
    assert "should serve m@1" in warning.finding
    assert warning.remedy == "Read its log; for a model server: tunestream models serving"
