"""``python -m tools.prose``: check how the pages are written; ``--source`` lists what the code still has."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.prose.rules import findings_in_pages, findings_in_source

__all__ = ["main"]

_ROOT = Path(__file__).parents[2]


def main() -> int:
    """Print each finding as ``file:line: problem``; return 1 when there is one."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.prose", description="Check how the pages are written."
    )
    parser.add_argument(
        "--source",
        action="store_true",
        help="list the words of the list in all docstrings, comments and texts",
    )
    if parser.parse_args().source:
        found = findings_in_source(_ROOT, everywhere=True)
    else:
        found = [*findings_in_pages(_ROOT), *findings_in_source(_ROOT)]
    sys.stdout.writelines(f"{finding}\n" for finding in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
