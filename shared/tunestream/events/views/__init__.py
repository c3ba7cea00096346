"""Views of records: what the hot path decodes of a body, the rest as raw bytes."""
