"""The process in which a local backend trains, and the owner's side of it."""
