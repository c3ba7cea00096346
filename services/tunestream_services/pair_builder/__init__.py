"""Turns each turn's candidates into preference trajectories."""
