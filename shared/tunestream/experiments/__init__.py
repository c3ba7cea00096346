"""Experiments: from a file of examples to a judged model, and grids of them."""
