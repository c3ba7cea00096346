"""``tunestream dlq``."""
