"""How a service gives memory back: what cyclic garbage costs, and what the allocator keeps."""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import Final

__all__ = ["calm_garbage_collector", "return_large_blocks"]

# A poll of 8,000 records leaves some 100,000 containers alive until its transactions commit. With
# Python's 700 the collector walks over them many times and finds nothing.
_YOUNG_OBJECTS: Final = 100_000
_YOUNG_ROUNDS: Final = 20
_MIDDLE_ROUNDS: Final = 50
# glibc's number for the size from which a block is mapped by itself, and given back when it is freed.
_MMAP_THRESHOLD: Final = -3
_LARGE_BLOCK: Final = 256 << 10


def calm_garbage_collector() -> None:
    """Leave out what was imported for good, and look for cycles rarely; call it once, when all is set up.

    Records, bodies and outputs make no cycles: they go by their reference counts as ever.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, _YOUNG_ROUNDS, _MIDDLE_ROUNDS)


def return_large_blocks() -> None:
    """Have the allocator give large blocks back to the system as soon as they are freed.

    glibc raises the size from which it does so with every large block that is freed, up to 32 MiB: then the
    buffers of fetches and batches, megabytes each, come from its heap, and holes of a hundred megabytes stay
    there for good. Other allocators have no such setting.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(_MMAP_THRESHOLD, _LARGE_BLOCK)
