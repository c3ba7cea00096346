"""Parts of speech of English words."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from typing import Any, Final

from tunestream.experiments.stages import StageFailed

__all__ = ["check_tagger", "tag"]

_SENTENCE_END: Final = re.compile(r"(?<=[.!?])\s+")


def check_tagger() -> None:
    """Check that the tagger's package is installed.

    Raises:
        StageFailed: when it is not.
    """
    if find_spec("textblob") is None:
        raise StageFailed(
            "missing_dependency",
            "verb_percent, adjective_percent and noun_percent need textblob: "
            "pip install 'tunestream[experiments]'",
        )


def tag(text: str) -> list[tuple[str, str]]:
    """Return each word of an English text with its Penn Treebank tag.

    The lexicon and the rules are in textblob's wheel: nothing is downloaded.
    """
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
