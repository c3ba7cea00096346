"""Logs: every line of a process has one form, and a library that repeats itself is cut short."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from typing import Any

import pytest

from tunestream.telemetry import Repeats

EVERYTHING = """
import logging, sys, threading, warnings
import structlog
from tunestream.config.settings import LogSettings
from tunestream.telemetry import configure_logging, pass_on
configure_logging(LogSettings(format=sys.argv[1]), service="trainer")
structlog.get_logger("tunestream.x").info("ours", number=float("nan"), what=object())
logging.getLogger("uvicorn.error").error("could not %s", "bind")
logging.getLogger("faststream").error("framework")
for number in range(500):
    logging.getLogger("aiokafka.conn").error("Unable to connect to %s", number)
warnings.warn("an old name", stacklevel=1)
pass_on("{'loss': 0.69}")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
raise RuntimeError("the end")
"""


def lines(form: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", EVERYTHING, form], capture_output=True, text=True, check=False, timeout=90
    )
    assert done.returncode == 1
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_every_line_is_a_json_object() -> None:
    found: list[dict[str, Any]] = [json.loads(line) for line in lines("json")]
    events = [line["event"] for line in found]
    assert {line["service"] for line in found} == {"trainer"}
    for event in ("ours", "could not bind", "framework", "child.printed"):
        assert events.count(event) == 1
    assert sum(event.startswith("Unable to connect") for event in events) == 1
    assert any("an old name" in event for event in events)
    crashes = [line["exception"] for line in found if line["event"] == "process.crashed"]
    assert ["ZeroDivisionError" in crashes[0], "the end" in crashes[1]] == [True, True]
    assert next(line for line in found if line["event"] == "child.printed")["line"] == "{'loss': 0.69}"


def test_a_person_reads_what_a_child_printed_as_it_is() -> None:
    assert "{'loss': 0.69}" in lines("console")


def record(name: str, message: str, *values: object, level: int = logging.ERROR) -> logging.LogRecord:
    return logging.LogRecord(name, level, __file__, 1, message, values, None)


def test_what_was_left_out_is_counted_by_template() -> None:
    now = 0.0
    repeats = Repeats(clock=lambda: now)
    assert repeats.filter(record("aiokafka.conn", "no %s", 1))
    assert repeats.filter(record("aiokafka.conn", "other"))
    for number in range(1_500):
        assert not repeats.filter(record("aiokafka.conn", "no %s", number))
    now = 31.0
    assert repeats.filter(again := record("aiokafka.conn", "no %s", 7))
    assert again.getMessage() == "no 7 (1,500 lines like this were left out)"


@pytest.mark.parametrize(
    ("name", "level"), [("tunestream.streams.tasks.task", logging.ERROR), ("x", logging.INFO)]
)
def test_our_own_lines_and_notes_all_pass(name: str, level: int) -> None:
    repeats = Repeats(clock=lambda: 0.0)
    assert all(repeats.filter(record(name, "again", level=level)) for _ in range(3))
