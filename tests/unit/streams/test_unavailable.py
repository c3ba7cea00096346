"""Every way to find no broker, in one sentence, from each door."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from aiokafka.errors import (
    KafkaConnectionError,
    RequestTimedOutError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)

from tests.helpers.services import free_port
from tunestream.config.settings import KafkaSettings
from tunestream.sdk import BlockingTTCPublisher, BrokerUnavailable, StatusSubscriber, TTCPublisher
from tunestream.streams.admin import list_topics
from tunestream.streams.broker.groups import group_lags
from tunestream.streams.broker.unavailable import reaching
from tunestream.streams.errors import in_words, is_unavailable
from tunestream.streams.publish import DeliveryError

Door = Callable[[KafkaSettings], AbstractAsyncContextManager[object]]


@asynccontextmanager
async def listing(settings: KafkaSettings) -> AsyncIterator[None]:
    await list_topics(settings)
    yield


@asynccontextmanager
async def lags(settings: KafkaSettings) -> AsyncIterator[None]:
    await group_lags(settings, {"trainer": ("training.batches",)})
    yield


DOORS: dict[str, Door] = {
    "publisher": TTCPublisher,
    "subscriber": lambda settings: StatusSubscriber(settings=settings),
    "topics": listing,
    "lags": lags,
}


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> Door:
    return DOORS[request.param]


async def refusal(door: Door, settings: KafkaSettings) -> BrokerUnavailable:
    with pytest.raises(BrokerUnavailable) as raised:
        async with door(settings):
            pass
    assert raised.value.__suppress_context__, "the client's traceback is not shown"
    return raised.value


async def test_nobody_listens(door: Door) -> None:
    servers = f"127.0.0.1:{free_port()}"
    error = await refusal(door, KafkaSettings(bootstrap_servers=servers))
    assert error.problem == f"No Kafka broker answers at {servers}: the connection was refused"
    assert "tunestream up" in error.remedy
    assert str(error).endswith(f"{error.remedy}.")
    assert is_unavailable(error)


def test_a_program_without_asyncio_gets_the_same_error() -> None:
    settings = KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port()}")
    with pytest.raises(BrokerUnavailable, match="the connection was refused"):
        BlockingTTCPublisher(settings).__enter__()


async def test_a_name_that_is_none(door: Door) -> None:
    error = await refusal(door, KafkaSettings(bootstrap_servers="no-such-host.invalid:9092"))
    assert error.problem.endswith("no-such-host.invalid:9092: the name cannot be resolved")


@asynccontextmanager
async def server(answer: bytes | None) -> AsyncIterator[str]:
    """Something that listens and is no broker: it answers with bytes, hangs up, or keeps quiet."""
    over = asyncio.Event()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if answer is None:
            await over.wait()
        else:
            writer.write(answer)
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        over.set()
        listening.close()


async def test_who_listens_and_never_answers_is_waited_for_no_longer_than_20_s() -> None:
    async with server(None) as servers, asyncio.timeout(120):
        settings = KafkaSettings(bootstrap_servers=servers)
        errors = await asyncio.gather(*(refusal(door, settings) for door in DOORS.values()))
    assert {error.problem for error in errors} == {f"No Kafka broker answers at {servers}: no answer in time"}


async def test_who_hangs_up_may_want_another_protocol() -> None:
    async with server(b"") as servers:
        error = await refusal(listing, KafkaSettings(bootstrap_servers=servers))
    assert "security protocol" in error.problem


async def test_tls_against_a_plain_port_is_named() -> None:
    async with server(b"220 smtp\r\n") as servers:
        error = await refusal(listing, KafkaSettings(bootstrap_servers=servers, security_protocol="SSL"))
    assert "TLS: " in error.problem
    assert "SSL" in error.remedy
    assert not is_unavailable(error), "waiting mends no TLS"


async def test_a_refused_password_is_no_passing_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> object:
        raise SaslAuthenticationFailed("Authentication failed: Invalid username or password")

    monkeypatch.setattr("tunestream.streams.broker.unavailable.create_conn", refuse)
    with pytest.raises(BrokerUnavailable) as raised:
        async with reaching(KafkaSettings(bootstrap_servers="b:9")):
            raise KafkaConnectionError("Unable to bootstrap")
    assert raised.value.problem == (
        "The Kafka broker at b:9 does not let us in: "
        "authentication: Authentication failed: Invalid username or password"
    )
    assert "SASL" in raised.value.remedy


async def test_a_bug_of_ours_stays_one() -> None:
    with pytest.raises(KeyError):
        async with reaching(KafkaSettings()):
            raise KeyError("ours")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UnknownTopicOrPartitionError(), "tunestream topics apply"),
        (TopicAuthorizationFailedError("t"), "does not allow it: t"),
        (RequestTimedOutError(), "the broker is away: no answer in time"),
        (
            DeliveryError(3, RequestTimedOutError()),
            "3 records were not delivered; the first: the broker is away: no answer in time",
        ),
        (ssl.SSLCertVerificationError("x"), "x"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_the_client_reports_later_is_one_sentence(error: Exception, words: str) -> None:
    assert words in in_words(error)
    assert "Error" not in in_words(error)
