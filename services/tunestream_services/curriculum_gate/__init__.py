"""Batches trajectory groups by reward into what jobs train on."""
