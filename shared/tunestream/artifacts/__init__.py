"""Datasets and weights by content address, over any fsspec file system."""

from tunestream.artifacts.checkpoints import CheckpointStore
from tunestream.artifacts.datasets import DatasetWriter, put_rows, read_rows, rows_to_jsonl
from tunestream.artifacts.errors import ArtifactCorrupt, ArtifactError, ArtifactMissing, ArtifactUnreachable
from tunestream.artifacts.logs import AttemptLog, LogLine, LogStore
from tunestream.artifacts.store import ArtifactStore, StoredDirectory, StoredObject

__all__ = [
    "ArtifactCorrupt",
    "ArtifactError",
    "ArtifactMissing",
    "ArtifactStore",
    "ArtifactUnreachable",
    "AttemptLog",
    "CheckpointStore",
    "DatasetWriter",
    "LogLine",
    "LogStore",
    "StoredDirectory",
    "StoredObject",
    "put_rows",
    "read_rows",
    "rows_to_jsonl",
]
