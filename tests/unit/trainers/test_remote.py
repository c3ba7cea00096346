"""Which faults of a service are tried again, how often, and after what time."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest

from tunestream.trainers.remote import Refused, Unavailable, by_status, retry_after, retrying


@dataclass
class Patience:
    attempts: int = 3
    retry_delay: float = 0.0
    retry_max_delay: float = 0.01


class Service:
    """Raises each error once, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def ask(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


async def test_a_passing_fault_is_tried_again() -> None:
    service = Service(Unavailable("busy"), Unavailable("busy"))
    assert await retrying(Patience())(service.ask) == "answer"
    assert service.calls == 3


async def test_after_the_last_attempt_the_fault_is_raised() -> None:
    service = Service(*(Unavailable(str(number)) for number in range(5)))
    with pytest.raises(Unavailable, match="2"):
        await retrying(Patience())(service.ask)


async def test_a_refusal_is_not_tried_again() -> None:
    service = Service(Refused(404, "unknown"))
    with pytest.raises(Refused):
        await retrying(Patience())(service.ask)
    assert service.calls == 1


async def test_the_time_that_the_service_names_is_kept_up_to_the_longest() -> None:
    patience = Patience(retry_delay=30.0, retry_max_delay=0.05)
    start = time.monotonic()
    await retrying(patience)(Service(Unavailable("busy", retry_after=3600.0)).ask)
    assert 0.04 <= time.monotonic() - start < 25.0
    start = time.monotonic()
    await retrying(Patience(retry_delay=30.0, retry_max_delay=30.0))(
        Service(Unavailable("busy", retry_after=0.0)).ask
    )
    assert time.monotonic() - start < 25.0


@pytest.mark.parametrize(
    ("status", "passing"), [(408, True), (429, True), (503, True), (400, False), (409, False)]
)
def test_a_status_is_a_passing_fault_or_a_refusal(status: int, passing: bool) -> None:
    error = by_status(status, "no", retry_after=2.0)
    assert isinstance(error, Unavailable if passing else Refused)
    if isinstance(error, Unavailable):
        assert error.retry_after == 2.0


def test_only_seconds_are_read_of_a_header() -> None:
    assert retry_after({"retry-after": "7"}) == 7.0
    assert retry_after({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}) is None
    assert retry_after({}) is None
