"""What is taken out of text before it is kept: secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Final

__all__ = ["Redactor"]

_SECRET_NAMES: Final = re.compile(
    r"token|secret|passw|api_?key|access_?key|private_?key|credential", re.IGNORECASE
)
_SHORTEST: Final = 8  # characters; shorter values are words such as "false"
_SHAPES: Final = re.compile(
    r"""
      \bhf_[A-Za-z0-9]{16,}
    | \b(?:sk|nvapi|glpat)-[A-Za-z0-9_-]{16,}
    | \bgh[opsu]_[A-Za-z0-9]{20,}
    | \bAKIA[0-9A-Z]{16}\b
    | (?<=[Bb]earer\ )[\w.~+/=-]{8,}
    | (?<=://)[^\s/@:]*:[^\s/@]+(?=@)
    """,
    re.VERBOSE,
)
_REDACTED: Final = "[redacted]"


class Redactor:
    """Takes secrets out of text: values of environment variables that are named like one, and known shapes.

    Args:
        environment: by default this process's, as it is now.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        values = os.environ if environment is None else environment
        secrets = {
            part
            for name, value in values.items()
            if _SECRET_NAMES.search(name)
            for part in value.splitlines()
            if len(part) >= _SHORTEST
        }
        # The longest first: a secret may be the beginning of another one.
        known = "|".join(map(re.escape, sorted(secrets, key=len, reverse=True)))
        self._known = re.compile(known) if known else None

    def __call__(self, text: str) -> str:
        """Return the text without its secrets."""
        if self._known is not None:
            text = self._known.sub(_REDACTED, text)
        return _SHAPES.sub(_REDACTED, text)
