"""What a deployment writes, for clients that need nothing else of its runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunestream.events.keys import encode_key
from tunestream.events.runs import FIRST_FORMAT, FORMAT_KEY, FormatRecord
from tunestream.streams.reading import RecordReader, stored_events

if TYPE_CHECKING:
    from tunestream.config.settings import KafkaSettings

__all__ = ["deployment_format"]


async def deployment_format(settings: KafkaSettings) -> int:
    """Return the format that a deployment writes; it may be a later one than this release knows.

    Reads one partition of ``runs`` to its end.

    Raises:
        BrokerUnavailable: when no broker answers within 20 s.
        MissingTopic: when the deployment has no topics yet.
        TimeoutError: when the topic cannot be read.
    """
    key, found = encode_key(FORMAT_KEY), FIRST_FORMAT
    async with RecordReader(settings, "runs", from_beginning=True, key=key) as reader:
        records = (record async for record in reader.to_end() if record.key == key)
        async for stored in stored_events(records):
            if isinstance(stored.body, FormatRecord):
                found = stored.body.format
    return found
