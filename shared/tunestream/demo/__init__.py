"""The closed-loop demo: a tiny model gets better at tic-tac-toe while it plays."""
