"""The recordings of a real agent, read where they lie beside the project."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tunestream.domain.collector.nat_steps import normalise_nat
from tunestream.events.nat import IntermediateStep
from tunestream.events.ttc import CandidateStep, ExampleEnd

FOLDER = Path(__file__).parents[3] / "shared" / "recordings"

needs_recordings = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="the recordings are not beside the project (../shared/recordings)"
)


def events() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (example id, step) in the order of emission."""
    with gzip.open(FOLDER / "nat-tic-tac-toe.jsonl.gz", "rt") as lines:
        for line in lines:
            event = json.loads(line)
            yield event["example_id"], event["step"]


@cache
def expected() -> dict[str, dict[str, Any]]:
    """Return what the reference made of the recording, by name of the configuration."""
    with gzip.open(FOLDER / "nat-tic-tac-toe.expected-pairs.json.gz", "rt") as file:
        found: dict[str, dict[str, Any]] = json.load(file)
    return found


@cache
def steps(name: str) -> tuple[CandidateStep | ExampleEnd, ...]:
    """Return what the collector makes of the recording under parity; candidates are steps of a name."""
    found = []
    for example, step in events():
        event = normalise_nat(
            IntermediateStep.model_validate(step),
            run_id="r",
            example_id=example,
            ttc_step_name=name,
            parity=True,
        )
        if event is not None:
            assert isinstance(event, CandidateStep | ExampleEnd)
            found.append(event)
    return tuple(found)


class TurnPart(NamedTuple):
    """Candidates of a turn that answer one prompt, in the order of emission; the last part completes it."""

    candidates: list[CandidateStep]
    complete: bool


def turn_parts(name: str) -> Iterator[TurnPart]:
    """Yield the turns of the recording, each as a whole or, where its prompt changes, in parts."""
    turns: dict[tuple[str, str], list[CandidateStep]] = {}
    for one in steps(name):
        if isinstance(one, CandidateStep):
            turns.setdefault((one.example_id, one.turn_id), []).append(one)
    for members in turns.values():
        parts = [list(part) for _, part in groupby(members, key=lambda one: one.prompt)]
        yield from (TurnPart(part, part is parts[-1]) for part in parts)
