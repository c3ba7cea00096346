"""The wire contract as documents: AsyncAPI, JSON Schemas, one normative example per topic and type."""

from tunestream.wire.compatibility import breaking_changes
from tunestream.wire.documents import wire_documents
from tunestream.wire.examples import Example, examples
from tunestream.wire.schemas import schema_of

__all__ = ["Example", "breaking_changes", "examples", "schema_of", "wire_documents"]
