"""Record keys: percent-encoded parts joined by "/", so that no two different tuples collide."""

from __future__ import annotations

from functools import lru_cache
from typing import Final
from urllib.parse import quote, unquote

__all__ = ["CURRENT", "decode_key", "encode_key"]

CURRENT: Final = "current"
"""Last part of the key of a run's pointer in ``runs`` and in ``models``."""

_CACHED: Final = 16_384  # the keys of a few thousand examples come again and again


@lru_cache(maxsize=_CACHED)
def encode_key(*parts: str) -> bytes:
    """Join ``parts`` into one key.

    Every part is percent-encoded, "/" included: ("a", "b/c") gives ``a/b%2Fc`` and ("a/b", "c")
    gives ``a%2Fb/c``.

    Raises:
        ValueError: without parts, or when a part is empty or not encodable as UTF-8.
    """
    if not parts or not all(parts):
        raise ValueError("a key needs at least one part and no part may be empty")
    return "/".join(quote(part, safe="") for part in parts).encode("ascii")


def decode_key(key: bytes) -> tuple[str, ...]:
    """Split a key into its parts; the inverse of :func:`encode_key`.

    Raises:
        ValueError: when the key is not ASCII or its escapes are not UTF-8.
    """
    return tuple(unquote(part, errors="strict") for part in key.decode("ascii").split("/"))
