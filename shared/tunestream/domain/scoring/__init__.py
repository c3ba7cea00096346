"""Turns that are closed to candidates and wait for scores: a run's reward function's, or people's."""
