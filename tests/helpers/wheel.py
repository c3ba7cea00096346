"""The wheel, and an environment in which it is installed as users install it."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]


def build_wheel(folder: Path) -> Path:
    """Build the wheel of this checkout, without a network."""
    _run("-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder))
    (wheel,) = folder.glob("*.whl")
    return wheel


def install_wheel(wheel: Path, folder: Path) -> Path:
    """Install a wheel into a fresh environment and return the folder of its scripts.

    What it depends on is that of the environment of the tests, whose editable install does not count: a
    path file in a folder that another path file names is not read.
    """
    _run("-m", "uv", "venv", "--quiet", "--offline", "--python", sys.executable, str(folder))
    scripts = folder / "bin"
    options = ("--quiet", "--offline", "--no-deps", "--python", str(scripts / "python"))
    _run("-m", "uv", "pip", "install", *options, str(wheel))
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return scripts


def environment_without_checkout() -> dict[str, str]:
    """Return this environment without what would find the checkout's modules."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def _run(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
