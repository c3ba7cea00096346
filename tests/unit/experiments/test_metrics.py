from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.helpers.plugins import install_plugin
from tunestream.config.experiment.experiment import QaConfig
from tunestream.experiments.qa import check_metrics, known_metrics
from tunestream.experiments.qa.metrics import Embeddings, Metric, cosine_similarity, make_metrics, measure
from tunestream.experiments.stages import StageFailed

TEXTS = st.text(alphabet="ab cd.,'\n", max_size=30)
TOOLKIT = [
    "summary_length",
    "jaccard_similarity",
    "dot_product",
    "rouge_score",
    "word_overlap",
    "json_valid",
    "verb_percent",
    "adjective_percent",
    "noun_percent",
]


def letters(texts: Sequence[str]) -> list[list[float]]:
    """An embedding: how often each of three letters comes."""
    return [[float(text.count(letter)) for letter in "abc"] for text in texts]


def value(name: str, ground_truth: str, predicted: str, **config: Any) -> float | str:
    metrics = make_metrics(QaConfig(llm_metrics=[name], **config), Embeddings(letters))
    return measure(metrics[name], prompt="?", ground_truth=ground_truth, predicted=predicted)


@pytest.mark.parametrize(
    ("name", "ground_truth", "predicted", "expected"),
    [
        ("exact_match", "red", " red\n", 1.0),
        ("exact_match", "red", "Red", 0.0),
        ("summary_length", "four", "fourteen", 4.0),
        ("jaccard_similarity", "the cat sat", "The cat ran", 0.5),
        ("jaccard_similarity", "listen", "silent", 0.0),  # all letters are shared, no word is
        ("jaccard_similarity", "", "", 1.0),
        ("dot_product", "aab", "ab", 3.0),
        ("rouge_score", "the cat sat", "the cat sat on the mat", pytest.approx(2 / 3)),
        ("rouge_score", "cats", "cat", 1.0),  # stemmed
        ("rouge_score", "red", "", 0.0),
        ("word_overlap", "the red fox", "a fox is red", 100.0),
        ("word_overlap", "red foxes run", "red and blue", pytest.approx(100 / 3)),
        ("json_valid", "", '{"a": [1, 2]}', 1.0),
        ("json_valid", "", '```json\n{"a": 1}\n```', 1.0),
        ("json_valid", "", '{"a": NaN}', 0.0),
        ("json_valid", "", '{"a": 1', 0.0),
        ("json_valid", "", "", 0.0),
        ("verb_percent", "", "She runs quickly.", pytest.approx(1 / 3)),
        ("noun_percent", "", "The dog didn't see the red house.", pytest.approx(2 / 8)),
        ("adjective_percent", "", "The quick brown fox", pytest.approx(1 / 2)),
        ("noun_percent", "", "", 0.0),
    ],
)
def test_values(name: str, ground_truth: str, predicted: str, expected: float) -> None:
    assert value(name, ground_truth, predicted) == expected


def test_a_metric_without_a_value_says_why() -> None:
    assert value("word_overlap", "the", "red") == "ValueError: the ground truth has no word that counts"


@pytest.fixture(scope="module")
def all_metrics() -> dict[str, Metric]:
    return make_metrics(QaConfig(llm_metrics=TOOLKIT), Embeddings(letters))


@given(first=TEXTS, second=TEXTS)
def test_jaccard_is_symmetric_and_a_share(all_metrics: dict[str, Metric], first: str, second: str) -> None:
    jaccard = all_metrics["jaccard_similarity"]
    there = jaccard(prompt="?", ground_truth=first, predicted=second)
    assert there == jaccard(prompt="?", ground_truth=second, predicted=first)
    assert 0.0 <= there <= 1.0
    assert jaccard(prompt="?", ground_truth=first, predicted=first) == 1.0


@given(text=st.text(max_size=60), other=st.text(max_size=60))
@settings(max_examples=50)
def test_every_metric_takes_every_text(all_metrics: dict[str, Metric], text: str, other: str) -> None:
    for name, metric in all_metrics.items():
        found = measure(metric, prompt="?", ground_truth=text, predicted=other)
        assert isinstance(found, float) or name == "word_overlap", (name, found)


@given(vector=st.lists(st.floats(-10, 10), min_size=3, max_size=3))
def test_a_cosine_lies_between_its_ends(vector: list[float]) -> None:
    assert -1.000001 <= cosine_similarity(vector, [1.0, 2.0, 3.0]) <= 1.000001
    assert cosine_similarity(vector, [0.0, 0.0, 0.0]) == 0.0


def test_embeddings_are_computed_once() -> None:
    asked: list[str] = []

    def embed(texts: Sequence[str]) -> list[list[float]]:
        asked.extend(texts)
        return letters(texts)

    embeddings = Embeddings(embed)
    embeddings.prepare(["a", "b", "a"])
    embeddings.prepare(["b", "c"])
    assert embeddings.of("c") == [0.0, 0.0, 1.0]
    assert asked == ["a", "b", "c"]


def test_the_toolkits_metrics_are_known() -> None:
    check_metrics(TOOLKIT)
    assert set(TOOLKIT) <= set(known_metrics())


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("length_test", "summary_length"), ("word_overlap_test", "word_overlap"), ("roug", "rouge_score")],
)
def test_a_name_of_the_toolkits_readme_gets_the_nearest_one(wrong: str, right: str) -> None:
    with pytest.raises(StageFailed, match=f"{wrong}' is unknown; did you mean '{right}'"):
        make_metrics(QaConfig(llm_metrics=[wrong]), Embeddings(letters))


def test_exact_match_is_always_taken() -> None:
    assert list(make_metrics(QaConfig(), Embeddings(letters))) == ["exact_match"]


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    install_plugin(
        tmp_path,
        "acme",
        """
        def shouting(*, prompt, ground_truth, predicted):
            return predicted.isupper()

        def broken(*, prompt, ground_truth, predicted):
            raise KeyError(predicted)

        def endless(*, prompt, ground_truth, predicted):
            return float("inf")
        """,
        metrics=["shouting", "broken", "endless"],
    )
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield
    sys.modules.pop("acme", None)


@pytest.mark.usefixtures("plugins")
def test_metrics_of_other_packages() -> None:
    assert value("shouting", "", "RED") == 1.0
    assert value("broken", "", "x") == "KeyError: 'x'"
    assert value("endless", "", "x") == "the value is inf"


OFFLINE = """
import socket, sys
def refuse(*_):
    raise AssertionError("the network was used")
socket.socket.connect = socket.getaddrinfo = refuse
import tunestream.experiments.inference, tunestream.experiments.qa, tunestream.experiments.report
late = {"torch", "transformers", "nltk", "textblob", "rouge_score", "matplotlib", "jinja2"}
print(*sorted(late & set(sys.modules)))
from tunestream.config.experiment.experiment import QaConfig
from tunestream.experiments.qa.metrics import Embeddings, make_metrics
metrics = make_metrics(QaConfig(llm_metrics=sys.argv[1:]), Embeddings(lambda texts: [[1.0] for _ in texts]))
print(*(metric(prompt="", ground_truth="red", predicted="A red fox runs.") for metric in metrics.values()))
"""


def test_nothing_is_fetched_and_no_library_is_loaded_at_import() -> None:
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, *TOOLKIT], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded, values = done.stdout.split("\n")[:2]
    assert loaded == ""
    assert len(values.split()) == len(TOOLKIT) + 1


def test_a_manifest_from_when_taggers_could_be_chosen_is_read() -> None:
    assert QaConfig.model_validate({"tagger": None, "resamples": 200}).resamples == 200
    with pytest.raises(ValidationError, match="tagger"):
        QaConfig.model_validate({"tagger": "acme"})
