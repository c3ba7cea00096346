"""Writes ``docs/wire`` and the generated tables of the pages."""

from tools.docs.files import generated_files, stale_files, write_files

__all__ = ["generated_files", "stale_files", "write_files"]
