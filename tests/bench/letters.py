"""How long ``tunestream dlq`` and ``dlq list`` take over many dead letters, as a user waits for them."""

from __future__ import annotations

import asyncio
import os
import sys
import time

from tests.bench.context import Context
from tests.bench.deployment import deploy
from tests.bench.results import Figure, at_most
from tests.helpers.letters import write_letters
from tunestream.config.settings import KafkaSettings

__all__ = ["letters"]

_BODY = b'{"prompt": "%s"}' % (b"0123456789abcdef" * 96)
_PARTITIONS = range(4)


async def letters(context: Context) -> list[Figure]:
    """100,000 letters of 1.5 kB on four partitions."""
    count = context.sized(100_000, 20_000)
    kafka = (await deploy(context.servers, context.folder)).kafka
    for partition in _PARTITIONS:
        for _ in range(count // len(_PARTITIONS) // 5000):
            await write_letters(kafka, ["unknown_run"] * 5000, partition=partition, body=_BODY)
    rounds = min(3, context.rounds)
    return [
        Figure("letters", f"{name}, {count:,} letters", took, "s", at_most(10.0))
        for name, command in {"dlq": ("dlq",), "dlq list": ("dlq", "list", "--json")}.items()
        if (took := tuple([await _timed(kafka, *command) for _ in range(rounds)]))
    ]


async def _timed(kafka: KafkaSettings, *command: str) -> float:
    environment = os.environ | {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "TUNESTREAM_KAFKA_TOPIC_PREFIX": kafka.topic_prefix,
    }
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tunestream", *command, env=environment, stdout=asyncio.subprocess.DEVNULL
    )
    assert await process.wait() == 0
    return time.monotonic() - began
