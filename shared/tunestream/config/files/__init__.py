"""YAML files with the line of each key, and messages that name it."""
