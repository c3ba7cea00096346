"""The pair builder's stage: turns and groups of episodes collect, close and become trajectories."""
