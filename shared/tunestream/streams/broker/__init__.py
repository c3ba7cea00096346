"""The broker: clients for it, what it is and has, and the errors when it is away."""
