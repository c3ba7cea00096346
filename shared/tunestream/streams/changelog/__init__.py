"""The changelog of a task and other compacted topics: what stands in them, and how it is read back."""
