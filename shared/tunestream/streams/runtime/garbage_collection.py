"""How often Python looks for cyclic garbage in a service."""

from __future__ import annotations

import gc
from typing import Final

__all__ = ["calm_garbage_collector"]

# A poll of 8,000 records leaves some 100,000 containers alive until its transactions commit. With
# Python's 700 the collector walks over them many times and finds nothing.
_YOUNG_OBJECTS: Final = 100_000
_YOUNG_ROUNDS: Final = 20
_MIDDLE_ROUNDS: Final = 50


def calm_garbage_collector() -> None:
    """Leave out what was imported for good, and look for cycles rarely; call it once, when all is set up.

    Records, bodies and outputs make no cycles: they go by their reference counts as ever.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, _YOUNG_ROUNDS, _MIDDLE_ROUNDS)
