"""The trainer's stage: the jobs of a run, from the batch to the terminal status."""
