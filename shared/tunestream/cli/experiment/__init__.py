"""``tunestream experiment``."""
