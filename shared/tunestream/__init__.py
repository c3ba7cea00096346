"""Continuous online fine-tuning as event-driven microservices."""

__version__ = "0.1.0"
__all__ = ["__version__"]
