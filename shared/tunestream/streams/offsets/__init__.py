"""Where a task goes on: found at its start, missed when retention was faster, set by an operator."""
