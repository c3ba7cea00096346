"""Words of a text."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["FUNCTION_WORDS", "words"]

_WORD: Final = re.compile(r"\w+(?:['\u2019]\w+)*")

FUNCTION_WORDS: Final = frozenset(
    """
    a about above after again against all am an and any are as at be because been before being below between
    both but by can did do does doing don't down during each few for from further had has have having he her
    here hers herself him himself his how i if in into is isn't it it's its itself just me more most my myself
    no nor not now of off on once only or other our ours ourselves out over own same she should so some such
    than that the their theirs them themselves then there these they this those through to too under until up
    very was wasn't we were weren't what when where which while who whom why will with won't would you your
    yours yourself yourselves
    """.split()  # noqa: SIM905 - 130 quoted words are no clearer
)
"""English words that mean little by themselves."""


def words(text: str) -> list[str]:
    """Return the words in lower case, punctuation left out."""
    return _WORD.findall(text.casefold().replace("\u2019", "'"))
