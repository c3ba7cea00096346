"""Dead letters from outside the services: read, counted, sent again and deleted."""
