"""The catalogue as an AsyncAPI 3.0 document."""

from __future__ import annotations

from typing import Any, Final

from tools.wire.examples import Example
from tools.wire.headers import headers_schema
from tunestream.events.cloudevents import CONTENT_TYPE
from tunestream.events.registry import event_types
from tunestream.topics import CATALOGUE, DEFAULT_PARTITIONS, Cleanup, KeyRule, Topic

__all__ = ["CONTRACT_VERSION", "asyncapi", "summary_of"]

CONTRACT_VERSION: Final = "1.0.0"
_BINDING_VERSION: Final = "0.5.0"
_SCHEMA_FORMAT: Final = "application/schema+json;version=draft-2020-12"
_DESCRIPTION: Final = """\
Every record that agents, services and subscribers exchange. Addresses are without the deployment's
prefix, partition counts are the defaults. Changelogs are the services' own and no part of the contract."""


def asyncapi(examples: list[Example]) -> dict[str, Any]:
    """Return the AsyncAPI document; payloads refer to ``schemas/<ce_type>.json`` beside it.

    Args:
        examples: become the messages' examples.
    """
    channels = [entry for entry in CATALOGUE if entry.service is None]
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "tunestream", "version": CONTRACT_VERSION, "description": _DESCRIPTION},
        "defaultContentType": CONTENT_TYPE,
        "channels": {entry.name: _channel(entry, examples) for entry in channels},
        "components": {"schemas": {_headers(entry): headers_schema(entry) for entry in channels}},
    }


def _channel(entry: Topic, examples: list[Example]) -> dict[str, Any]:
    return {
        "address": entry.name,
        "description": entry.description,
        "messages": _messages(entry, examples),
        "bindings": {"kafka": _topic_binding(entry)},
    }


def _topic_binding(entry: Topic) -> dict[str, Any]:
    configuration: dict[str, Any] = {
        "cleanup.policy": entry.cleanup.value.split(","),
        "max.message.bytes": entry.max_message_bytes,
    }
    if entry.cleanup is not Cleanup.COMPACT:
        configuration["retention.ms"] = entry.retention_ms
    return {
        "topic": entry.name,
        "partitions": DEFAULT_PARTITIONS,
        "topicConfiguration": configuration,
        "bindingVersion": _BINDING_VERSION,
    }


def _messages(entry: Topic, examples: list[Example]) -> dict[str, Any]:
    if entry.source is not None:
        return {"refused": _refused(entry)}
    return {
        name: _message(entry, name, [e for e in examples if (e.topic, e.ce_type) == (entry.name, name)])
        for name in entry.types
    }


def _message(entry: Topic, name: str, examples: list[Example]) -> dict[str, Any]:
    model = event_types()[name]
    documents = [example.document() for example in examples]
    return {
        "name": name,
        "title": model.__name__,
        "summary": summary_of(name),
        "contentType": CONTENT_TYPE,
        "headers": {"$ref": f"#/components/schemas/{_headers(entry)}"},
        "payload": {"schemaFormat": _SCHEMA_FORMAT, "schema": {"$ref": f"schemas/{name}.json"}},
        "bindings": {"kafka": _key(entry.key)},
        "examples": [{"headers": one["headers"], "payload": one["body"]} for one in documents],
    }


def summary_of(ce_type: str) -> str:
    """Return the first sentence of the docstring of a type's model."""
    summary = (event_types()[ce_type].__doc__ or "").strip().splitlines()[0]
    return summary.replace("``", "`")


def _refused(entry: Topic) -> dict[str, Any]:
    return {
        "name": "refused",
        "title": "Dead letter",
        "summary": f"A record of {entry.source} in its original bytes; they may be anything.",
        "headers": {"$ref": f"#/components/schemas/{_headers(entry)}"},
        "bindings": {"kafka": _key(entry.key)},
    }


def _headers(entry: Topic) -> str:
    return f"{entry.name}.headers"


def _key(rule: KeyRule) -> dict[str, Any]:
    text = f"{rule.value}; percent-encoded parts joined by '/'"
    if rule is KeyRule.ORIGINAL:
        text = rule.value
    return {"key": {"type": "string", "description": text}, "bindingVersion": _BINDING_VERSION}
