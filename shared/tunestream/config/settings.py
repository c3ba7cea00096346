"""How a process is deployed: ``TUNESTREAM_*`` environment variables.

What a run should do is in its YAML file (:mod:`tunestream.config.run.run`); where things are is here.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_core import PydanticCustomError

from tunestream.config.environment import EnvironmentSettings, variables
from tunestream.topics import DEFAULT_PARTITIONS

__all__ = [
    "KafkaSettings",
    "LogSettings",
    "PublisherSettings",
    "ServiceSettings",
    "StoreSettings",
    "SupervisorSettings",
]

_SERVER: Final = re.compile(r"(?:\[[^\s\]]+\]|[^\s:/@\[\]]+)(?::(\d{1,5}))?")


class KafkaSettings(EnvironmentSettings):
    """The broker, how to reach it, and how its topics are laid out."""

    model_config = variables("TUNESTREAM_KAFKA_")

    bootstrap_servers: str = Field(
        default="localhost:9092",
        validation_alias="KAFKA_BOOTSTRAP_SERVERS",
        description="host:port list; taken from KAFKA_BOOTSTRAP_SERVERS",
    )
    topic_prefix: str = Field(
        default="", pattern=r"^[A-Za-z0-9._-]*$", description="of topics, groups and transactional ids"
    )
    partitions: int = Field(default=DEFAULT_PARTITIONS, ge=1, description="of each topic, when it is created")
    replication_factor: int = Field(default=1, ge=1, description="of each topic, when it is created")
    min_insync_replicas: int = Field(default=1, ge=1, description="that confirm a write; of each topic")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="TLS with SSL, credentials with SASL"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="PLAIN", description="counts with a SASL protocol"
    )
    sasl_username: str | None = Field(default=None, description="required with a SASL protocol")
    sasl_password: SecretStr | None = Field(default=None, description="required with a SASL protocol")
    ssl_ca_file: Path | None = Field(default=None, description="certificate authority, PEM")
    ssl_cert_file: Path | None = Field(default=None, description="client certificate, PEM")
    ssl_key_file: Path | None = Field(default=None, description="client key, PEM")
    ssl_check_hostname: bool = Field(default=True, description="the broker's certificate names its host")

    @field_validator("bootstrap_servers")
    @classmethod
    def _are_servers(cls, value: str) -> str:
        servers = [server.strip() for server in value.split(",")]
        if not any(servers):
            return str(cls.model_fields["bootstrap_servers"].default)
        if not all(_is_server(server) for server in servers if server):
            raise PydanticCustomError(
                "servers",
                "is no list of HOST:PORT; write names and ports alone: kafka-1:9092,kafka-2:9092",
            )
        return value

    @model_validator(mode="after")
    def _sasl_has_credentials(self) -> Self:
        if self.security_protocol.startswith("SASL") and not (self.sasl_username and self.sasl_password):
            raise ValueError(
                f"security_protocol {self.security_protocol} needs TUNESTREAM_KAFKA_SASL_USERNAME "
                "and TUNESTREAM_KAFKA_SASL_PASSWORD"
            )
        return self

    def topic(self, name: str) -> str:
        """Return the catalogue's ``name`` as it is called on this broker."""
        return f"{self.topic_prefix}{name}"


def _is_server(text: str) -> bool:
    if text.count(":") > 1 and not text.startswith("["):
        return _is_address(text)
    found = _SERVER.fullmatch(text)
    return found is not None and (found[1] is None or 0 < int(found[1]) < 1 << 16)


def _is_address(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


class StoreSettings(EnvironmentSettings):
    """Where datasets and weights are kept."""

    model_config = variables("TUNESTREAM_")

    artifacts: str = Field(
        default=".tunestream/artifacts", description="a folder or any fsspec URL, e.g. s3://bucket/path"
    )


class PublisherSettings(EnvironmentSettings):
    """How an agent's SDK publishes."""

    model_config = variables("TUNESTREAM_SDK_")

    turns: Literal["whole", "stream"] | None = Field(
        default=None,
        description="a turn goes as one record, or as single candidates and an end; by default the "
        "deployment's format decides (from 3 on: one record), which is read from the `runs` topic",
    )


class LogSettings(EnvironmentSettings):
    """What a process logs, and how."""

    model_config = variables("TUNESTREAM_LOG_")

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="lowest level that is logged"
    )
    format: Literal["json", "console"] = Field(default="json", description="JSON lines, or for people")


class ServiceSettings(EnvironmentSettings):
    """One replica of one service.

    ``replica`` must be unique per service and stable over restarts (a StatefulSet's ordinal, a
    supervisor's slot): it makes the group's static membership, so that a restart moves no partition.
    """

    model_config = variables("TUNESTREAM_")

    replica: str = Field(
        default="0",
        pattern=r"^[A-Za-z0-9._-]{1,100}$",
        description="unique per service, stable over restarts",
    )
    session_timeout_seconds: float = Field(
        default=10.0, gt=0, description="without a heartbeat, a replica's partitions go to others"
    )
    commit_interval_ms: int = Field(default=25, ge=1, description="longest wait for records before a commit")
    max_records_per_commit: int = Field(default=2000, ge=1, description="per partition")
    startup_seconds: float = Field(
        default=60.0, gt=0, description="how long the start waits for a broker that is away"
    )
    shutdown_seconds: float = Field(default=10.0, gt=0, description="one budget for everything at the end")
    retry_min_seconds: float = Field(
        default=0.2, gt=0, description="before a partition in fault is opened again; doubled each time"
    )
    retry_max_seconds: float = Field(default=30.0, gt=0, description="longest of these waits")
    progress_deadline_seconds: float = Field(
        default=60.0, gt=0, description="a batch in hand for longer than this makes the service not live"
    )
    stall_seconds: float = Field(
        default=30.0,
        gt=0,
        description="a partition that stands still for longer makes the service not ready; without an "
        "explanation, four times as long makes it not live",
    )


class SupervisorSettings(EnvironmentSettings):
    """How ``tunestream up`` restarts a service that died."""

    model_config = variables("TUNESTREAM_UP_")

    restart_waits: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        default=(0.0, 0.5, 1.0, 2.0, 4.0),
        description="seconds before each restart, a JSON list; one more death within two minutes ends it",
    )
