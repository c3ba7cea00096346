"""Settings that environment variables give."""

from __future__ import annotations

from pydantic import AliasGenerator
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["EnvironmentSettings", "variables"]


class EnvironmentSettings(BaseSettings):
    """Settings whose fields are environment variables.

    A value that is wrong is refused by its variable's name; a program gives it by the field's.
    """

    model_config = SettingsConfigDict(populate_by_name=True, extra="ignore", frozen=True)


def variables(prefix: str) -> SettingsConfigDict:
    """Return the configuration of settings whose variables have a prefix."""
    return SettingsConfigDict(
        # Without it a field would also be given by a variable of its bare name, e.g. SSL_CERT_FILE.
        env_prefix=prefix,
        alias_generator=AliasGenerator(validation_alias=lambda name: f"{prefix}{name}".upper()),
    )
