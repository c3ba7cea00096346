"""The offline command on a real recording, against the pairs that the reference made of it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from tests.helpers.recordings import FOLDER, events, expected, needs_recordings
from tunestream.cli import app

pytestmark = needs_recordings

CONFIGURATIONS = ["exhaustive", "exhaustive_diff_max5", "best_vs_worst", "chosen_score"]
Pair = tuple[str, str, int, int, float]


def run_pairs(folder: Path, config: dict[str, Any], *flags: str) -> list[Pair]:
    """Run the command and return its pairs in the form of the expected ones."""
    (folder / "run.yaml").write_text(yaml.safe_dump({"trajectory_builder": config}))
    out = folder / "out.jsonl"
    source = str(FOLDER / "nat-tic-tac-toe.jsonl.gz")
    call = ["pairs", "--config", str(folder / "run.yaml"), *flags, source, "--output", str(out)]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 0, result.stderr
    names = ("example_id", "turn_id", "chosen_index", "rejected_index", "reward")
    rows = map(json.loads, out.read_text().splitlines())
    return [tuple(row[name] for name in names) for row in rows]


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_parity_gives_exactly_the_expected_pairs(name: str, tmp_path: Path) -> None:
    case = expected()[name]
    assert run_pairs(tmp_path, case["config"], "--nat-parity") == [tuple(pair) for pair in case["pairs"]]


def responses() -> dict[tuple[str, str, int], tuple[str, float]]:
    """Return response and score by example, turn and candidate index."""
    found = {}
    for example, step in events():
        if step["payload"]["event_type"] == "TTC_END":
            data = step["payload"]["data"]
            found[example, data["turn_id"], data["candidate_index"]] = (data["output"], data["score"])
    return found


def test_without_parity_exactly_ties_and_identical_responses_are_missing(tmp_path: Path) -> None:
    case = expected()["exhaustive"]
    by_index = responses()

    def usable(pair: Pair) -> bool:
        chosen, rejected = by_index[pair[0], pair[1], pair[2]], by_index[pair[0], pair[1], pair[3]]
        return chosen[0] != rejected[0] and chosen[1] != rejected[1]

    all_pairs = [tuple(pair) for pair in case["pairs"]]
    kept = [pair for pair in all_pairs if usable(pair)]
    assert 0 < len(kept) < len(all_pairs)
    assert run_pairs(tmp_path, case["config"]) == kept


@pytest.mark.parametrize("name", ["exhaustive_diff_max5", "best_vs_worst", "chosen_score"])
def test_without_parity_a_turn_never_has_a_pair_that_the_reference_has_not(name: str, tmp_path: Path) -> None:
    case = expected()[name]
    extra = Counter(run_pairs(tmp_path, case["config"])) - Counter(tuple(pair) for pair in case["pairs"])
    assert not extra  # in this recording no cap made room for another pair
