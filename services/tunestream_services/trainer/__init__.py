"""Trains batches into model versions, one job at a time."""
