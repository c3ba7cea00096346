"""The servers that answer with the run's model."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator

from tunestream.config.run.section import EnvName, Section

__all__ = ["Servers", "ServingConfig"]


class ServingConfig(Section):
    """A server that loads promoted adapters."""

    url: str
    """Without `/v1`, e.g. http://localhost:8000."""
    kind: Literal["vllm", "sglang"] = "vllm"
    """Whose adapter routes it has; `tunestream serve` has vLLM's."""
    api_key_env: EnvName | None = None
    """Variable in the trainer's environment that holds the server's key, sent as a bearer token."""
    adapter_root: str | None = None
    """The trainer's folder of adapters as the server sees it; by default under the same path."""
    keep_previous: int = Field(default=1, ge=0)
    """Versions that were current before and stay loaded: answers may still run on them."""
    stable_name: bool = False
    """Also load the current version as plain `target_model`, for clients that follow no versions."""

    @field_validator("url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("write an address such as http://localhost:8000")
        if "@" in parts.netloc:
            raise ValueError("holds a user or password; name an environment variable in api_key_env instead")
        if parts.path.rstrip("/").endswith("/v1"):
            raise ValueError("leave /v1 out: the adapter routes are found from what comes before it")
        return value.rstrip("/")

    @field_validator("adapter_root")
    @classmethod
    def _is_absolute(cls, value: str | None) -> str | None:
        if value is not None and not PurePosixPath(value).is_absolute():
            raise ValueError("write an absolute path, such as /mnt/adapters")
        return value


def _check_distinct(servers: list[ServingConfig]) -> list[ServingConfig]:
    for url, times in Counter(server.url for server in servers).items():
        if times > 1:
            raise ValueError(f"names {url} {times} times; a server is one entry")
    return servers


Servers = Annotated[list[ServingConfig], AfterValidator(_check_distinct)]
