"""The NeMo Agent Toolkit's own files: read, translated and noted."""
