"""``tunestream models``."""
