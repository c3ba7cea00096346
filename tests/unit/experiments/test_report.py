from __future__ import annotations

import csv
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.experiments import add_arm, experiment, failed_arm
from tunestream.experiments.manifests import ExperimentManifest
from tunestream.experiments.plots import draw_comparison, draw_curves, draw_metric
from tunestream.experiments.report import write_report
from tunestream.experiments.store import ExperimentStore
from tunestream.experiments.summary import Summary, summarise, to_csv, to_markdown
from tunestream.reporting.plots import svg_of

RATE = "training.training_args.learning_rate"
SWEEP = {"arm-000": 1e-4, "arm-001": 1e-3, "arm-002": 1e-2}


@pytest.fixture
def store(tmp_path: Path) -> ExperimentStore:
    return ExperimentStore(tmp_path)


@pytest.fixture
def study(store: ExperimentStore) -> ExperimentManifest:
    """Two complete arms, of which the second is better, and one that failed."""
    arms = [
        add_arm(store, 0, {RATE: 1e-4}, exact=0.3),
        add_arm(store, 1, {RATE: 1e-3}, exact=0.8, curve=(3.0, 1.0, 0.2)),
        failed_arm(2, {RATE: 1e-2}, "the loss became | nan:\nset a smaller learning_rate"),
    ]
    return experiment(arms, name="study <1>")


@pytest.fixture
def summary(store: ExperimentStore, study: ExperimentManifest) -> Summary:
    return summarise(store, study)


def test_the_summary_tells_settings_metrics_time_and_status(summary: Summary) -> None:
    assert summary.swept == [RATE]
    assert summary.metrics == ["exact_match", "rouge_score", "summary_length", "train_loss"]
    assert summary.best == "arm-001"
    assert [arm.status for arm in summary.arms] == ["complete", "complete", "failed"]
    assert [arm.seconds for arm in summary.arms] == [12.5, 12.5, 2.5]
    assert summary.arms[2].error is not None
    loss = summary.arms[1].value("train_loss")
    assert loss is not None
    assert (loss.mean, loss.low) == (0.2, None)
    assert summary.arms[2].value("exact_match") is None


def test_the_csv_holds_every_number(summary: Summary) -> None:
    first, second, third = csv.DictReader(to_csv(summary).splitlines(keepends=True))
    assert (first["arm"], first[RATE], first["exact_match"]) == ("arm-000", "0.0001", "0.3")
    assert (second["best"], second["train_loss"], second["train_loss_low"]) == ("yes", "0.2", "")
    assert float(second["exact_match_low"]) == pytest.approx(0.74)
    assert (third["status"], third["exact_match"]) == ("failed", "")
    assert "nan" in third["error"]


def test_the_markdown_is_one_table(summary: Summary) -> None:
    header, rule, *lines = to_markdown(summary).splitlines()
    assert len({re.sub(r"\\\|", "", line).count("|") for line in (header, rule, *lines)}) == 1
    assert lines[1].startswith("| **arm-001** | 0.001 | complete | 12.5 | 0.8 (0.74 to 0.86) |")


def test_arms_that_share_a_training_share_a_curve(store: ExperimentStore) -> None:
    arms = [add_arm(store, number, {"inference.top_p": number}, exact=0.5) for number in range(2)]
    found = summarise(store, experiment(arms))
    figure = draw_curves(found.arms, found.best)
    assert figure is not None
    (line,) = figure.axes[0].lines
    assert line.get_label() == "arm-000, arm-001 (best)"
    assert np.array_equal(line.get_ydata(), [3.1, 1.9, 1.2, 0.9, 0.8])


def test_a_metric_is_drawn_by_each_setting_in_order(store: ExperimentStore) -> None:
    settings = [{RATE: 1e-2, "lora.r": 8}, {RATE: 1e-4, "lora.r": 8}, {RATE: 1e-2, "lora.r": 16}]
    arms = [add_arm(store, number, each, exact=0.2 * number) for number, each in enumerate(settings)]
    figure = draw_metric(summarise(store, experiment(arms)), "exact_match")
    assert figure is not None
    rate, rank = figure.axes
    assert [label.get_text() for label in rate.get_xticklabels()] == ["0.0001", "0.01"]
    assert [label.get_text() for label in rank.get_xticklabels()] == ["8", "16"]
    means = rate.lines[-1]
    assert np.allclose(means.get_ydata(), [0.2, 0.2])


def test_nothing_is_drawn_of_nothing(store: ExperimentStore) -> None:
    alone = summarise(store, experiment([add_arm(store, 0, {}, exact=0.5)]))
    assert draw_metric(alone, "exact_match") is None
    failed = summarise(store, experiment([failed_arm(1, {}, "no")]))
    assert draw_curves(failed.arms, None) is None
    assert draw_comparison(failed.arms[0]) is None


def test_a_picture_is_the_same_at_every_call(summary: Summary) -> None:
    first, second = (draw_metric(summary, "exact_match") for _ in range(2))
    assert first is not None
    assert second is not None
    assert svg_of(first) == svg_of(second)


class Page(HTMLParser):
    """What a page would load, and its elements."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.words: list[str] = []
        self.text = path.read_text("utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if tag == "a" and name == "href":
                self.links.append(str(value))
            elif name in {"src", "href", "xlink:href", "data", "action"} and not str(value).startswith("#"):
                self.loads.append(str(value))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_report_of_a_study(store: ExperimentStore, study: ExperimentManifest) -> None:
    page = Page(write_report(store, study))
    folder = store.experiment_dir(study.id)
    assert page.loads == []
    assert "url(http" not in page.text
    assert not page.tags & {"script", "link", "img", "iframe"}
    assert page.links == [f"report-{name}.html" for name in SWEEP]
    assert all((folder / link).exists() for link in page.links)
    assert {"study <1>", "2 complete, 1 failed", "0.8 (0.74 to 0.86)"} <= set(page.words)
    for name in ("metric.png", "curves.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    assert (folder / "summary.csv").exists()
    assert (folder / "summary.md").exists()
    failed = Page(folder / "report-arm-002.html")
    assert any("set a smaller learning_rate" in words for words in failed.words)


def test_the_report_of_an_arm_shows_answers_as_text(store: ExperimentStore) -> None:
    attack = "<script>alert(1)</script> & <b>bold</b>"
    page = Page(
        write_report(store, experiment([add_arm(store, 0, {}, exact=0.9, question=attack, note=attack)]))
    )
    assert "script" not in page.tags
    assert "".join(page.words).count(attack) == 13  # twelve answers and the note
    assert page.loads == []
    assert {"10.0% → 90.0%", "✓", "✗", "0.8 (0.74 to 0.86)"} <= set(page.words)
