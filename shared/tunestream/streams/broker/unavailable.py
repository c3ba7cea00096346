"""No broker, in one sentence: who was asked, what is wrong, and what to do about it."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    BrokerNotAvailableError,
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    KafkaUnavailableError,
    LeaderNotAvailableError,
    NodeNotReadyError,
    RequestTimedOutError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

from tunestream.streams.broker.options import client_options

if TYPE_CHECKING:
    from tunestream.config.settings import KafkaSettings

__all__ = ["AWAY", "BrokerUnavailable", "reaching", "why"]

AWAY: Final = (
    BrokerNotAvailableError,
    KafkaConnectionError,
    KafkaTimeoutError,
    KafkaUnavailableError,
    LeaderNotAvailableError,
    NodeNotReadyError,
    RequestTimedOutError,
)
_NOT_LET_IN: Final = (
    AuthenticationFailedError,
    IllegalSaslStateError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

# A start and the look for the reason end within 20 s, also where packets vanish.
_START_SECONDS: Final = 12.0
_LOOK_SECONDS: Final = 3.0


class BrokerUnavailable(ConnectionError):
    """The broker cannot be used: it does not answer, or does not let us in.

    Attributes:
        problem: which broker, and what is wrong, in one sentence.
        reason: what is wrong, in a few words.
        remedy: what to do about it; also the end of the message.
        passing: whether the same call may succeed later; False where credentials or TLS are wrong.
    """

    def __init__(self, servers: str, reason: str, *, passing: bool = True) -> None:
        self.reason = reason
        self.passing = passing
        if passing:
            self.problem = f"No Kafka broker answers at {servers}: {reason}"
            self.remedy = (
                "Start one (tunestream up; the broker alone: tunestream kafka), or name another by "
                "KAFKA_BOOTSTRAP_SERVERS or --brokers"
            )
        else:
            self.problem = f"The Kafka broker at {servers} does not let us in: {reason}"
            self.remedy = "Correct TUNESTREAM_KAFKA_SECURITY_PROTOCOL, _SASL_* or _SSL_*"
        super().__init__(f"{self.problem}. {self.remedy}.")


@asynccontextmanager
async def reaching(settings: KafkaSettings, seconds: float = _START_SECONDS) -> AsyncIterator[None]:
    """Bound the first contact with the broker, e.g. the start of a client.

    Args:
        settings: the broker.
        seconds: for the block; finding the reason takes three more at most.

    Raises:
        BrokerUnavailable: instead of the client's own error, with the reason.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except BrokerUnavailable:
        raise
    except TimeoutError:
        raise await _unavailable(settings, f"no answer within {seconds:g} s") from None
    except (*AWAY, *_NOT_LET_IN) as error:
        raise await _unavailable(settings, why(error)) from None


async def _unavailable(settings: KafkaSettings, seen: str) -> BrokerUnavailable:
    """Return the error, with what a connection of its own meets: the client only logs that."""
    found = await asyncio.gather(*(_look(settings, *address) for address in _addresses(settings)))
    met = [error for error in found if error is not None]
    if len(met) < len(found):  # one of them answers by now
        return BrokerUnavailable(settings.bootstrap_servers, seen)
    reasons = "; ".join(dict.fromkeys(_met(error) for error in met))
    passing = not all(isinstance(error, (*_NOT_LET_IN, ssl.SSLError)) for error in met)
    return BrokerUnavailable(settings.bootstrap_servers, reasons, passing=passing)


def _addresses(settings: KafkaSettings) -> list[tuple[str, int]]:
    return [(host, port) for host, port, _ in collect_hosts(settings.bootstrap_servers)]


async def _look(settings: KafkaSettings, host: str, port: int) -> Exception | None:
    """Return what stands between us and one server, None when it answers."""
    options = client_options(settings)
    del options["bootstrap_servers"]
    try:
        async with asyncio.timeout(_LOOK_SECONDS):
            connection = await create_conn(host, port, **options)
    except (OSError, KafkaError) as error:
        return error
    connection.close()
    return None


def _met(error: Exception) -> str:
    if isinstance(error, KafkaConnectionError):
        return "the connection was closed; the port may take another security protocol"
    return why(error)


def why(error: BaseException) -> str:
    """Return an error of the client or of the network in a few words."""
    return next(words(error) for kinds, words in _WORDS if isinstance(error, kinds))


def _text(error: BaseException) -> str:
    """Return the words of an error without the name of its class."""
    words = " ".join(map(str, error.args))
    return words or getattr(error, "description", "") or type(error).__name__


def _of_system(error: OSError) -> str:
    return _text(error) if error.errno is None else os.strerror(error.errno).lower()


# The first kind that fits has the words.
_WORDS: Final[
    Sequence[tuple[type[BaseException] | tuple[type[BaseException], ...], Callable[[Any], str]]]
] = (
    (socket.gaierror, lambda _: "the name cannot be resolved"),
    (
        ssl.SSLCertVerificationError,
        lambda error: f"TLS: the certificate is not accepted: {error.verify_message}",
    ),
    (ssl.SSLError, lambda error: f"TLS: {(error.reason or _text(error)).replace('_', ' ').lower()}"),
    (_NOT_LET_IN, lambda error: f"authentication: {_text(error)}"),
    (ConnectionRefusedError, lambda _: "the connection was refused"),
    (
        (TimeoutError, RequestTimedOutError, KafkaTimeoutError),
        lambda error: _text(error) if error.args else "no answer in time",
    ),
    (OSError, _of_system),
    (BaseException, _text),
)
