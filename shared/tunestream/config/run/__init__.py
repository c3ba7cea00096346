"""The configuration of a run in the native shape."""
