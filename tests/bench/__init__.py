"""What tunestream reaches, measured: ``python -m tests.bench --help``."""
