"""The recordings of a real agent, read where they lie beside the project."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

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
