"""``python -m tunestream``."""

from tunestream.cli import main

main()
