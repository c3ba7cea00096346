"""``python -m tools.docs``: write what is generated; ``--release`` makes the schemas the baseline."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.docs.baseline import broken_promises, release
from tools.docs.files import write_files

__all__ = ["main"]

_ROOT = Path(__file__).parents[2]


def main() -> int:
    """Write the files; return 1 when a schema breaks its baseline."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.docs", description="Write the generated documents."
    )
    parser.add_argument("--release", action="store_true", help="make the schemas as they are the baseline")
    options = parser.parse_args()
    for path in write_files(_ROOT):
        sys.stdout.write(f"wrote {path.relative_to(_ROOT)}\n")
    problems = broken_promises(_ROOT)
    sys.stderr.writelines(f"{problem}\n" for problem in problems)
    if options.release and not problems:
        release(_ROOT)
    return 1 if problems else 0


sys.exit(main())
