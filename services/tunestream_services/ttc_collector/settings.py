"""Settings of the collector."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from tunestream.config.environment import EnvironmentSettings, variables
from tunestream.config.settings import KafkaSettings

__all__ = ["CollectorSettings"]


class CollectorSettings(EnvironmentSettings):
    """``TUNESTREAM_COLLECTOR_*`` environment variables."""

    model_config = variables("TUNESTREAM_COLLECTOR_")

    replay: bool = Field(
        default=False,
        description="for a deployment with a topic prefix of its own that replays events: `ce_tslogtime` "
        "gives stream time, and silence does not",
    )

    @model_validator(mode="after")
    def _replays_apart(self) -> Self:
        if self.replay and not KafkaSettings().topic_prefix:
            raise ValueError(
                "a replay needs topics of its own: set TUNESTREAM_KAFKA_TOPIC_PREFIX, or unset "
                "TUNESTREAM_COLLECTOR_REPLAY"
            )
        return self
