"""A task: one partition number of a group's inputs, its handler, its state and its transactions."""
