"""How the deployment's security settings reach the Kafka client."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tunestream.config.settings import KafkaSettings
from tunestream.streams.broker.options import client_options

SASL: dict[str, Any] = {"sasl_username": "agent", "sasl_password": "secret"}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate, its own authority, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    asked = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=broker"]
    subprocess.run([*asked, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    return cert, key


def test_plaintext_is_the_default() -> None:
    options = client_options(KafkaSettings(bootstrap_servers="broker:9092"))

    assert options["bootstrap_servers"] == "broker:9092"
    assert options["security_protocol"] == "PLAINTEXT"
    assert not {name for name in options if name.startswith(("sasl", "ssl"))}


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_sasl(mechanism: str) -> None:
    options = client_options(
        KafkaSettings(security_protocol="SASL_PLAINTEXT", sasl_mechanism=mechanism, **SASL)
    )

    assert options["security_protocol"] == "SASL_PLAINTEXT"
    assert options["sasl_mechanism"] == mechanism
    assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("agent", "secret")
    assert "ssl_context" not in options


def test_sasl_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "SECURITY_PROTOCOL": "SASL_SSL",
        "SASL_MECHANISM": "SCRAM-SHA-512",
        "SASL_USERNAME": "agent",
        "SASL_PASSWORD": "secret",
    }.items():
        monkeypatch.setenv(f"TUNESTREAM_KAFKA_{name}", value)
    options = client_options(KafkaSettings())

    assert options["sasl_plain_password"] == "secret"
    assert isinstance(options["ssl_context"], ssl.SSLContext)


@pytest.mark.parametrize("missing", sorted(SASL))
def test_sasl_without_credentials_is_refused(missing: str) -> None:
    given = {name: value for name, value in SASL.items() if name != missing}
    with pytest.raises(ValidationError, match="TUNESTREAM_KAFKA_SASL_USERNAME"):
        KafkaSettings(security_protocol="SASL_SSL", **given)


def test_the_password_is_not_shown() -> None:
    assert "secret" not in repr(KafkaSettings(security_protocol="SASL_SSL", **SASL))


def test_tls_trusts_the_given_authority_and_shows_the_client_certificate(
    certificate: tuple[Path, Path],
) -> None:
    cert, key = certificate
    settings = KafkaSettings(security_protocol="SSL", ssl_ca_file=cert, ssl_cert_file=cert, ssl_key_file=key)
    context = client_options(settings)["ssl_context"]

    assert [dict(part[0] for part in authority["subject"]) for authority in context.get_ca_certs()] == [
        {"commonName": "broker"}
    ]
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED


def test_the_hostname_check_can_be_left_out(certificate: tuple[Path, Path]) -> None:
    settings = KafkaSettings(security_protocol="SSL", ssl_ca_file=certificate[0], ssl_check_hostname=False)
    context = client_options(settings)["ssl_context"]

    assert not context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED


def test_a_missing_certificate_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        client_options(KafkaSettings(security_protocol="SSL", ssl_ca_file=tmp_path / "none.pem"))
