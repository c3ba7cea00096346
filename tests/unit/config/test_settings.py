"""Settings of a process are checked when they are read."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tunestream.config.environment import EnvironmentSettings
from tunestream.config.settings import KafkaSettings, LogSettings, PublisherSettings, ServiceSettings


@pytest.mark.parametrize(
    "servers",
    [
        "kafka",
        "kafka:9092",
        "a:1, b:65535",
        "a:1,",
        "127.0.0.1:9092",
        "[::1]:9092",
        "::1",
        "my_kafka.local:1",
    ],
)
def test_servers_are_hosts_and_ports(servers: str) -> None:
    assert KafkaSettings(bootstrap_servers=servers).bootstrap_servers == servers


@pytest.mark.parametrize(
    "servers",
    [
        "kafka:port",
        "kafka:0",
        "kafka:65536",
        "kafka:",
        "PLAINTEXT://kafka:9092",
        "a:1 b:2",
        "u:p@kafka:1",
        "a:1:2",
    ],
)
def test_what_is_no_list_of_servers_is_refused_and_not_repeated(servers: str) -> None:
    with pytest.raises(ValidationError, match="is no list of HOST:PORT") as caught:
        KafkaSettings(bootstrap_servers=servers)
    assert servers not in caught.value.errors(include_input=False)[0]["msg"]


@pytest.mark.parametrize("servers", ["", " ", ",,"])
def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch, servers: str) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", servers)
    assert KafkaSettings().bootstrap_servers == "localhost:9092"


def test_a_wrong_value_is_refused_by_the_name_of_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESTREAM_SDK_TURNS", "both")
    monkeypatch.setenv("TUNESTREAM_KAFKA_PARTITIONS", "0")
    with pytest.raises(ValidationError, match=r"TUNESTREAM_SDK_TURNS\n.*'whole' or 'stream'"):
        PublisherSettings()
    with pytest.raises(ValidationError, match=r"TUNESTREAM_KAFKA_PARTITIONS\n"):
        KafkaSettings()
    assert KafkaSettings(partitions=3).partitions == 3


@pytest.mark.parametrize("settings", [KafkaSettings, LogSettings, ServiceSettings])
def test_a_variable_of_a_fields_bare_name_is_somebody_elses(
    settings: type[EnvironmentSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = settings()
    for name in settings.model_fields.keys() - {"bootstrap_servers"}:
        monkeypatch.setenv(name.upper(), "somebody else's")
    assert settings() == before
