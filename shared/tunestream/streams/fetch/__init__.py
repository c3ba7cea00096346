"""Fetching: batches are decompressed and walked here, so that one that is damaged loses no other record."""
