"""The deployables: one folder, one process each."""
