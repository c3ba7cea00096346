"""Parts of speech."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache
from importlib.util import find_spec
from typing import Any, Final

from tunestream.experiments.interfaces import StageFailed
from tunestream.experiments.qa.plugins import TAGGERS_GROUP, load_plugin, nearest, plugin_names

__all__ = ["DEFAULT_TAGGER", "Tagger", "find_tagger"]

DEFAULT_TAGGER: Final = "pattern"

Tagger = Callable[[str], Iterable[tuple[str, str]]]
"""Text → each word with its Penn Treebank tag."""

_SENTENCE_END: Final = re.compile(r"(?<=[.!?])\s+")


def find_tagger(name: str | None) -> Tagger:
    """Return a tagger by its name: ``pattern``, or one of another package.

    Raises:
        StageFailed: when there is none of that name, or the package of ``pattern`` is not installed.
    """
    if name in {None, DEFAULT_TAGGER}:
        if find_spec("textblob") is None:
            raise StageFailed(
                "missing_dependency",
                "verb_percent, adjective_percent and noun_percent need textblob: "
                "pip install 'tunestream[experiments]', or name a tagger in qa.tagger",
            )
        return _by_pattern
    assert name is not None
    known = plugin_names(TAGGERS_GROUP)
    if name not in known:
        raise StageFailed(
            "unknown_tagger", f"qa.tagger: {name!r} is unknown; {nearest(name, [DEFAULT_TAGGER, *known])}"
        )
    tagger: Tagger = load_plugin(TAGGERS_GROUP, name)
    return tagger


def _by_pattern(text: str) -> list[tuple[str, str]]:
    """Tag English by the lexicon and rules that are in textblob's wheel."""
    tokenizer, tagger = _pattern()
    sentences = (tokenizer.tokenize(sentence) for sentence in _SENTENCE_END.split(text))
    tokens = [token for sentence in sentences for token in sentence]
    tagged: list[tuple[str, str]] = tagger.tag(" ".join(tokens), tokenize=False) if tokens else []
    return tagged


@cache
def _pattern() -> tuple[Any, Any]:
    from nltk.tokenize import NLTKWordTokenizer  # noqa: PLC0415 - an extra
    from textblob.taggers import PatternTagger  # noqa: PLC0415 - an extra

    return NLTKWordTokenizer(), PatternTagger()
