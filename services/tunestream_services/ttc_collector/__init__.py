"""Validates what agents publish and keeps the stream's clock."""
