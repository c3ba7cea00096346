"""The wire contract as documents: AsyncAPI, JSON Schemas, one normative example per topic and type."""

from tools.wire.compatibility import breaking_changes
from tools.wire.documents import wire_documents
from tools.wire.examples import Example, examples
from tools.wire.schemas import schema_of

__all__ = ["Example", "breaking_changes", "examples", "schema_of", "wire_documents"]
