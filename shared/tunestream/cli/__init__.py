"""The ``tunestream`` command.

Exit codes: 0 ok, 1 the user's fault or a failed run, 2 usage, 3 try again later (the broker is away).
"""

from tunestream.cli.app import app, main

__all__ = ["app", "main"]
