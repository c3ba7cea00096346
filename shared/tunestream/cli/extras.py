"""Commands that need an extra: a missing package becomes a failure that names the extra."""

from __future__ import annotations

from importlib.util import find_spec

from tunestream.cli.errors import Failure

__all__ = ["check_extra"]


def check_extra(extra: str, *modules: str) -> None:
    """Check that the modules of an extra can be imported; none is.

    Raises:
        Failure: when some are missing.
    """
    if missing := [name for name in modules if find_spec(name) is None]:
        raise Failure(
            f"packages are missing: {', '.join(missing)}", remedy=f"pip install 'tunestream[{extra}]'"
        )
