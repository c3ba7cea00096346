"""What a stage runs on and with; known without torch."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from tunestream import __version__
from tunestream.experiments.manifests import Hardware

__all__ = ["hardware", "versions"]

_PACKAGES: Final = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "datasets",
    "bitsandbytes",
    "tokenizers",
    "safetensors",
    "numpy",
)


@cache
def hardware() -> Hardware:
    """Describe this machine."""
    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return Hardware(
        machine=platform.machine(),
        system=platform.platform(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory=pages * page,
        accelerators=_accelerators(),
    )


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python, of this package and of what trains."""
    found = {"python": platform.python_version(), "tunestream": __version__}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _accelerators() -> list[str]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return ["unknown: nvidia-smi gave no answer"]
    return ended.stdout.strip().splitlines() if ended.returncode == 0 else []
