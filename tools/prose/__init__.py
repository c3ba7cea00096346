"""Checks how the pages are written: words, lengths of sentences, one name for each concept."""

from tools.prose.rules import findings_in_pages, findings_in_source

__all__ = ["findings_in_pages", "findings_in_source"]
