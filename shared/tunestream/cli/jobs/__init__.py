"""``tunestream jobs``."""
