"""The jars of Apache Kafka: fetched once, then found again without a resolver or a network."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

import structlog

from tunestream.streams.embedded.errors import JarsUnavailableError

__all__ = ["ENDPOINT", "KAFKA_VERSION", "class_path", "user_cache"]

KAFKA_VERSION: Final = "4.3.1"
ENDPOINT: Final = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}+org.slf4j:slf4j-simple:2.0.17"

_log = structlog.get_logger(__name__)


def class_path(cache: Path | None = None) -> str:
    """Return the class path with which Java finds the broker.

    Args:
        cache: the folder that remembers where the jars lie; by default the user's cache folder.

    Raises:
        JarsUnavailableError: when they are not on this machine and cannot be fetched.
    """
    memo = (cache or user_cache()) / f"kafka-{KAFKA_VERSION}.jars.json"
    jars = _recall(memo)
    if jars is None:
        jars = _resolve()
        _remember(memo, jars)
    return os.pathsep.join(map(str, jars))


def user_cache() -> Path:
    """Return the folder of what is fetched or made once for this user."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "tunestream"


def _recall(memo: Path) -> list[Path] | None:
    try:
        jars = [Path(jar) for jar in json.loads(memo.read_text(encoding="utf-8"))]
    except (OSError, ValueError):
        return None
    return jars if jars and all(jar.is_file() for jar in jars) else None


def _remember(memo: Path, jars: list[Path]) -> None:
    memo.parent.mkdir(parents=True, exist_ok=True)
    draft = memo.with_suffix(f".{os.getpid()}.tmp")
    draft.write_text(json.dumps([str(jar) for jar in jars]), encoding="utf-8")
    draft.replace(memo)


def _resolve() -> list[Path]:
    import jgo  # noqa: PLC0415 - takes 0.3 s, and only the first start needs it

    _log.info("kafka_jars_fetching", endpoint=ENDPOINT)
    try:
        return [Path(jar) for jar in jgo.build(endpoint=ENDPOINT).all_jars]
    except (OSError, RuntimeError) as error:
        raise JarsUnavailableError(ENDPOINT, str(error)) from error
