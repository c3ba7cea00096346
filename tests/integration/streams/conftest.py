"""What the tests of the runtime share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.surfaces import listening


@pytest.fixture
def log_lines() -> Iterator[list[str]]:
    """The log lines of the services in this process, as JSON."""
    with listening() as lines:
        yield lines
