"""The wire contract as it is committed in docs/wire."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator, FormatChecker

from tools.docs import stale_files
from tools.docs.baseline import BASELINE, broken_promises
from tunestream.events.cloudevents import Envelope
from tunestream.events.keys import decode_key, encode_key
from tunestream.events.registry import event_types, model_of
from tunestream.streams.letters.dead_letters import original_headers
from tunestream.streams.tasks.encoding import partition_for
from tunestream.topics import CATALOGUE, DEFAULT_PARTITIONS, topic

ROOT = Path(__file__).parents[2]
WIRE = ROOT / "docs/wire"
EXAMPLES = sorted((WIRE / "examples").glob("*/*.json"))


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


@cache
def asyncapi() -> Any:
    return yaml.safe_load((WIRE / "asyncapi.yaml").read_text("utf-8"))


def named(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@pytest.fixture(params=EXAMPLES, ids=[named(path) for path in EXAMPLES])
def path(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


@pytest.fixture
def example(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = read(path)
    return found


@pytest.fixture
def value(example: dict[str, Any]) -> bytes:
    """The record's value, as docs/wire/README.md says that it follows from the file."""
    return json.dumps(example["body"], separators=(",", ":"), ensure_ascii=False).encode()


def test_documents_are_as_the_code_would_write_them() -> None:
    stale = [str(path.relative_to(ROOT)) for path in stale_files(ROOT)]
    assert not stale, f"run `make docs` and commit: {', '.join(stale)}"


def test_schemas_keep_what_was_released() -> None:
    assert broken_promises(ROOT) == []


def test_every_type_has_a_baseline() -> None:
    assert {path.stem for path in (ROOT / BASELINE).glob("*.json")} == event_types().keys()


def test_every_topic_has_an_example_of_each_of_its_types() -> None:
    wanted = {(entry.name, name) for entry in CATALOGUE for name in entry.types}
    found = {(path.parent.name, path.stem) for path in EXAMPLES}
    refused = {entry.name for entry in CATALOGUE if entry.source is not None}
    assert {place for place in found if place[0] not in refused} == wanted
    assert {name for name, _ in found if name in refused} == refused


def test_the_body_reads_and_writes_to_the_same_bytes(example: dict[str, Any], value: bytes) -> None:
    model = model_of(example["headers"]["ce_type"])
    assert model is not None
    assert model.model_validate_json(value).model_dump_json().encode() == value


def test_the_headers_read_and_write_to_the_same_bytes(example: dict[str, Any]) -> None:
    headers = [(name, text.encode()) for name, text in example["headers"].items()]
    sent = original_headers(headers)
    assert Envelope.from_headers(sent).to_headers() == sent
    assert (sent == headers) == (topic(example["topic"]).source is None)


def test_the_key_and_the_partition(example: dict[str, Any]) -> None:
    key = example["key"].encode()
    parts = decode_key(key)
    assert encode_key(*parts) == key
    if example["partition"] is not None:
        routed = encode_key(parts[0]) if topic(example["topic"]).by_run else key
        assert partition_for(routed, DEFAULT_PARTITIONS) == example["partition"]


def test_the_body_fits_its_schema(example: dict[str, Any]) -> None:
    schema = read(WIRE / "schemas" / f"{example['headers']['ce_type']}.json")
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema, format_checker=FormatChecker()).validate(example["body"])


def test_the_headers_fit_their_schema(example: dict[str, Any]) -> None:
    schema = asyncapi()["components"]["schemas"][f"{example['topic']}.headers"]
    assert example["headers"].keys() <= schema["properties"].keys()
    Draft202012Validator(schema, format_checker=FormatChecker()).validate(example["headers"])


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = asyncapi()
    found = list(references(document))
    assert found
    for reference in found:
        if reference.startswith("#/"):
            here: Any = document
            for part in reference.removeprefix("#/").split("/"):
                here = here[part]
        else:
            assert (WIRE / reference).is_file(), reference


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict) and "$ref" in value:
        yield value["$ref"]
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from references(inner)


def test_the_asyncapi_document_says_how_topics_are_made() -> None:
    channels = asyncapi()["channels"]
    assert channels.keys() == {entry.name for entry in CATALOGUE if entry.service is None}
    for name, channel in channels.items():
        entry, binding = topic(name), channel["bindings"]["kafka"]
        assert binding["partitions"] == DEFAULT_PARTITIONS
        settings = {key: str(value) for key, value in binding["topicConfiguration"].items()}
        settings["cleanup.policy"] = ",".join(binding["topicConfiguration"]["cleanup.policy"])
        assert settings.items() <= entry.settings().items()
