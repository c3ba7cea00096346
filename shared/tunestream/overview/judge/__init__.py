"""What is to be thought of facts: pure, from facts to findings."""
