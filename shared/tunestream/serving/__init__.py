"""Model servers: what they should answer with, what they do, and the way from one to the other."""
