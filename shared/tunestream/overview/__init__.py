"""What a deployment looks like: facts, read by thin readers, and what is to be thought of them."""
