"""Reads facts: thin, and changes nothing."""
