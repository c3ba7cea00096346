"""What every Kafka client is given: the broker's address and security. Imported fast."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tunestream.config.settings import KafkaSettings

__all__ = ["REQUEST_TIMEOUT_MS", "client_options", "ssl_context"]

REQUEST_TIMEOUT_MS: Final = 20_000


def client_options(settings: KafkaSettings) -> dict[str, Any]:
    """Return what every aiokafka client of this deployment is given.

    Raises:
        FileNotFoundError: when a certificate file does not exist.
        ssl.SSLError: when a certificate cannot be read.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers,
        "security_protocol": settings.security_protocol,
        "request_timeout_ms": REQUEST_TIMEOUT_MS,
    }
    if settings.security_protocol.startswith("SASL"):
        assert settings.sasl_password is not None
        options |= {
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": settings.sasl_password.get_secret_value(),
        }
    if settings.security_protocol.endswith("SSL"):
        options["ssl_context"] = ssl_context(settings)
    return options


def ssl_context(settings: KafkaSettings) -> ssl.SSLContext:
    """Return the TLS context of this deployment."""
    context = ssl.create_default_context(cafile=settings.ssl_ca_file)
    context.check_hostname = settings.ssl_check_hostname
    if settings.ssl_cert_file is not None:
        context.load_cert_chain(settings.ssl_cert_file, settings.ssl_key_file)
    return context
