"""The broker that the environment names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tunestream.config.settings import KafkaSettings

__all__ = ["settings_or_environment", "turns_of_environment"]


def settings_or_environment(settings: KafkaSettings | None) -> KafkaSettings:
    """Return the settings given, else those of ``KAFKA_BOOTSTRAP_SERVERS`` and ``TUNESTREAM_KAFKA_*``."""
    if settings is not None:
        return settings
    from tunestream.config.settings import KafkaSettings  # noqa: PLC0415 - costs a third of the SDK's import

    return KafkaSettings()


def turns_of_environment() -> Literal["whole", "stream"] | None:
    """Return ``TUNESTREAM_SDK_TURNS``, None when the deployment's format decides.

    Raises:
        pydantic.ValidationError: when it is neither.
    """
    from tunestream.config.settings import PublisherSettings  # noqa: PLC0415 - as above

    return PublisherSettings().turns
