from __future__ import annotations

import json
import re
from dataclasses import replace
from io import StringIO
from math import sqrt
from pathlib import Path
from random import Random
from statistics import stdev

import pytest
from rich.console import Console

from tunestream.demo import game
from tunestream.demo.evaluation import Outcomes, Strength, paired_difference
from tunestream.demo.recipes import Quantization
from tunestream.demo.report import render, write_report
from tunestream.demo.results import Activity, DemoResults
from tunestream.events.training import Objective

BOARDS = sorted(game.test_boards())


def strength(number: int, rate: float) -> Strength:
    rng = Random(number)
    hits = tuple(rng.random() < rate for _ in BOARDS)
    return Strength(number, f"{number:032x}" if number else None, hits, illegal=0)


@pytest.fixture
def results() -> DemoResults:
    return DemoResults(
        run_id="run<1>",
        seed=0,
        objective=Objective.GRPO,
        quantization=Quantization.NF4,
        unit="episodes",
        strengths=tuple(strength(number, 0.5 + 0.1 * number) for number in range(5)),
        before=Outcomes(win=0.4, draw=0.1, loss=0.45, illegal=0.05),
        after=Outcomes(win=0.9, draw=0.08, loss=0.02, illegal=0.0),
        activity=Activity(
            games=900, turns=3400, trajectories=3100, held_out_turns=500, illegal=20, seconds=100.0
        ),
    )


def test_the_gain_is_paired_by_board() -> None:
    first = strength(0, 0.5)
    flipped = list(first.optimal)
    flipped[0] = not flipped[0]
    gain = paired_difference(first, replace(first, optimal=tuple(flipped)))
    assert abs(gain.mean) == pytest.approx(1 / 649)
    assert gain.high - gain.low < 0.01


def test_boards_that_fail_together_count_as_one() -> None:
    """When whole classes succeed or fail, the interval is that of the classes, not of the boards."""
    rng = Random(0)
    fates = {name: rng.random() < 0.5 for name in sorted({game.canonical(board) for board in BOARDS})}
    hits = tuple(fates[game.canonical(board)] for board in BOARDS)
    together = Strength(0, None, hits, 0).interval
    apart = 1.96 * stdev(map(float, hits)) / sqrt(len(hits))
    assert (together.high - together.low) / 2 > 2 * apart


def test_no_change_is_no_improvement(results: DemoResults) -> None:
    same = replace(results, strengths=(strength(0, 0.5), replace(strength(0, 0.5), number=1)))
    assert same.gain.mean == 0
    assert not same.passed
    assert "no measurable improvement" in same.verdict
    assert results.passed


def test_a_loss_is_no_improvement(results: DemoResults) -> None:
    assert not replace(results, strengths=results.strengths[::-1]).passed


def test_the_page_needs_nothing_beside_itself(results: DemoResults, tmp_path: Path) -> None:
    files = write_report(results, tmp_path)
    page = files.page.read_text("utf-8")
    assert re.findall(r'(?:src|href)="(?!#)[^"]*"', page) == []
    assert not re.search(r"@import|url\((?!#)|<script|<link", page)
    assert "<svg" in page
    assert "run&lt;1&gt;" in page
    assert "$" not in page
    assert page.count("grpo, QLoRA nf4") >= 3  # the sentence, the picture and the footer
    assert "episodes" in page
    assert files.picture.read_bytes().startswith(b"\x89PNG")
    numbers = json.loads(files.numbers.read_text("utf-8"))
    assert (numbers["passed"], numbers["objective"], numbers["quantization"]) == (True, "grpo", "nf4")


def test_the_table_has_a_line_for_each_version(results: DemoResults) -> None:
    output = StringIO()
    Console(file=output, width=100).print(render(results))
    text = output.getvalue()
    assert [line.split()[0] for line in text.splitlines() if "%" in line][1:6] == list("01234")
    assert "improved by grpo, QLoRA nf4: optimal moves +" in text
