"""A service at work: started, fed, asked for its health, and stopped."""
