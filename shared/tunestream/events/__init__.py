"""The wire contract: bodies, keys, identifiers and headers of every record, one module per family."""
