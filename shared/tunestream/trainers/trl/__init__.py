"""Training on this machine with TRL. Torch is loaded by the worker process only."""
