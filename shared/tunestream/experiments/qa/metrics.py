"""What an answer is measured by: the toolkit's metrics, and those of other packages."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from math import isfinite, sqrt
from operator import mul
from types import MappingProxyType
from typing import Any, Final, Protocol

from tunestream.config.experiment.experiment import QaConfig
from tunestream.experiments.qa.parts_of_speech import check_tagger, tag
from tunestream.experiments.qa.plugins import load_metric, nearest, plugin_names
from tunestream.experiments.qa.words import FUNCTION_WORDS, words
from tunestream.experiments.stages import StageFailed

__all__ = [
    "EMBEDDED",
    "Embeddings",
    "Metric",
    "check_metrics",
    "cosine_similarity",
    "exact_match",
    "known_metrics",
    "make_metrics",
    "measure",
    "parse_json",
]

EMBEDDED: Final = "dot_product"
_FENCE: Final = re.compile(r"^\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*$", re.DOTALL | re.IGNORECASE)
_VERBS: Final = frozenset({"VB", "VBD", "VBG", "VBN", "VBP", "VBZ"})
_ADJECTIVES: Final = frozenset({"JJ", "JJR", "JJS"})
_NOUNS: Final = frozenset({"NN", "NNS", "NNP", "NNPS"})


class Metric(Protocol):
    """Measures one answer. What it raises is kept as the reason for which the answer has no value."""

    def __call__(self, *, prompt: str, ground_truth: str, predicted: str) -> float:
        """Return a finite number."""


class Embeddings:
    """Vectors of texts, computed many at a time and kept.

    Args:
        embed: texts → a vector each.
    """

    def __init__(self, embed: Callable[[Sequence[str]], list[list[float]]]) -> None:
        self._embed = embed
        self._known: dict[str, list[float]] = {}

    def prepare(self, texts: Iterable[str]) -> None:
        """Compute what is not known yet, and forget what is not among ``texts``."""
        wanted = list(dict.fromkeys(texts))
        missing = [text for text in wanted if text not in self._known]
        vectors = dict(zip(missing, self._embed(missing) if missing else [], strict=True))
        self._known = {text: vectors[text] if text in vectors else self._known[text] for text in wanted}

    def of(self, text: str) -> list[float]:
        """Return the vector of a text."""
        if text not in self._known:
            self._known[text] = self._embed([text])[0]
        return self._known[text]


def exact_match(*, prompt: str, ground_truth: str, predicted: str) -> float:  # noqa: ARG001
    """1 when the answer is the ground truth, white space at the ends aside."""
    return float(predicted.strip() == ground_truth.strip())


def json_valid(*, prompt: str, ground_truth: str, predicted: str) -> float:  # noqa: ARG001
    """1 when the answer is JSON, alone or in a Markdown code block."""
    try:
        parse_json(predicted)
    except ValueError:
        return 0.0
    return 1.0


def parse_json(text: str) -> Any:
    """Return the value of a JSON text, alone or in a Markdown code block.

    Raises:
        ValueError: when it is not JSON; the message names the fault.
    """
    fenced = _FENCE.match(text)
    return json.loads(fenced[1] if fenced else text, parse_constant=_no_constant)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _summary_length(*, prompt: str, ground_truth: str, predicted: str) -> float:  # noqa: ARG001
    return float(abs(len(ground_truth) - len(predicted)))


def _jaccard(*, prompt: str, ground_truth: str, predicted: str) -> float:  # noqa: ARG001
    first, second = set(words(ground_truth)), set(words(predicted))
    union = first | second
    return len(first & second) / len(union) if union else 1.0


def _word_overlap(*, prompt: str, ground_truth: str, predicted: str) -> float:  # noqa: ARG001
    wanted = set(words(ground_truth)) - FUNCTION_WORDS
    if not wanted:
        raise ValueError("the ground truth has no word that counts")
    return 100.0 * len(wanted & set(words(predicted))) / len(wanted)


def _rouge(*, prompt: str, ground_truth: str, predicted: str) -> float:  # noqa: ARG001
    return float(_rouge_scorer().score(ground_truth, predicted)["rouge1"].fmeasure)


@cache
def _rouge_scorer() -> Any:
    if find_spec("rouge_score") is None:
        raise StageFailed(
            "missing_dependency", "rouge_score needs rouge-score: pip install 'tunestream[experiments]'"
        )
    from rouge_score.rouge_scorer import RougeScorer  # noqa: PLC0415 - an extra

    return RougeScorer(["rouge1"], use_stemmer=True)


_PLAIN: Final[Mapping[str, Metric]] = MappingProxyType(
    {
        "exact_match": exact_match,
        "json_valid": json_valid,
        "summary_length": _summary_length,
        "jaccard_similarity": _jaccard,
        "word_overlap": _word_overlap,
        "rouge_score": _rouge,
    }
)
_PARTS_OF_SPEECH: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {"verb_percent": _VERBS, "adjective_percent": _ADJECTIVES, "noun_percent": _NOUNS}
)
_BUILT_IN: Final = (*_PLAIN, EMBEDDED, *_PARTS_OF_SPEECH)


def known_metrics() -> list[str]:
    """Return the names of all metrics, those of installed packages included."""
    return list(dict.fromkeys([*_BUILT_IN, *plugin_names()]))


def check_metrics(names: Iterable[str]) -> None:
    """Refuse names that no metric has.

    Raises:
        StageFailed: with the nearest name for each.
    """
    known = known_metrics()
    wrong = [f"{name!r} is unknown; {nearest(name, known)}" for name in names if name not in known]
    if wrong:
        raise StageFailed("unknown_metric", "qa.llm_metrics: " + "; ".join(wrong))


def make_metrics(config: QaConfig, embeddings: Embeddings) -> dict[str, Metric]:
    """Return the metrics of a configuration; ``exact_match`` is always among them.

    Raises:
        StageFailed: when one is unknown, or its package is not installed.
    """
    names = list(dict.fromkeys(["exact_match", *config.llm_metrics]))
    check_metrics(names)
    if "rouge_score" in names:
        _rouge_scorer()
    if _PARTS_OF_SPEECH.keys() & names:
        check_tagger()
    return {name: _make(name, embeddings) for name in names}


def _make(name: str, embeddings: Embeddings) -> Metric:
    if name in _PLAIN:
        return _PLAIN[name]
    if name == EMBEDDED:
        return _dot_product(embeddings)
    if name in _PARTS_OF_SPEECH:
        return _share(_PARTS_OF_SPEECH[name])
    plugin: Metric = load_metric(name)
    return plugin


def _dot_product(embeddings: Embeddings) -> Metric:
    def metric(*, prompt: str, ground_truth: str, predicted: str) -> float:  # noqa: ARG001
        product: float = sum(map(mul, embeddings.of(ground_truth), embeddings.of(predicted)))
        return product

    return metric


def _share(tags: frozenset[str]) -> Metric:
    def metric(*, prompt: str, ground_truth: str, predicted: str) -> float:  # noqa: ARG001
        tagged = [name for word, name in tag(predicted) if any(sign.isalnum() for sign in word)]
        return sum(name in tags for name in tagged) / len(tagged) if tagged else 0.0

    return metric


def cosine_similarity(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the cosine of the angle between two vectors; 0 when one has no length."""
    length = sqrt(sum(map(mul, first, first)) * sum(map(mul, second, second)))
    product: float = sum(map(mul, first, second))
    return product / length if length else 0.0


def measure(metric: Metric, *, prompt: str, ground_truth: str, predicted: str) -> float | str:
    """Return the value of an answer, or why there is none."""
    try:
        value = float(metric(prompt=prompt, ground_truth=ground_truth, predicted=predicted))
    except StageFailed:
        raise
    except Exception as error:  # noqa: BLE001 - one answer's fault, or another's code, must not end the rest
        return f"{type(error).__name__}: {error}"
    return value if isfinite(value) else f"the value is {value}"
