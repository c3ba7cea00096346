"""The reason codes: the list from which their counters are made knows all that the source gives."""

from __future__ import annotations

import re
from pathlib import Path

from tunestream.domain import refusals
from tunestream.streams.letters.dead_letters import REASONS

ROOT = Path(__file__).parents[3]
_GIVEN = re.compile(r'Refused\(\s*"([a-z_.]+)"')


def test_every_code_of_the_source_has_its_counter_from_the_start() -> None:
    files = [*(ROOT / "shared").rglob("*.py"), *(ROOT / "services").rglob("*.py")]
    given = {code for file in files for code in _GIVEN.findall(file.read_text("utf-8"))}
    given |= set(refusals._CODES.values())
    assert len(given) > 15
    assert given <= set(REASONS)


def test_the_list_is_in_order() -> None:
    assert sorted(set(REASONS)) == list(REASONS)
