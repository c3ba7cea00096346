"""What the gate publishes of its windows beside the batches."""

from __future__ import annotations

from typing import Any

import pytest

from tests.helpers.inbound import KnownRuns, inbound
from tunestream.domain.effects import Effects
from tunestream.events.windows import CurriculumWindow
from tunestream_services.trainer.handler import TrainerHandler


@pytest.mark.parametrize("key", [b"r", b"another"])
async def test_a_window_is_nothing_to_the_trainer(key: bytes) -> None:
    runs, nobody, effects = KnownRuns(), Any, Effects()
    handler = TrainerHandler(runs, nobody, nobody, nobody)  # type: ignore[arg-type]
    body = CurriculumWindow(run_id="r", config_digest="d", epoch=0, reason="all_held_out", selected=["g"])
    record = inbound(body, key)
    await handler.prepare([record], 0.0)
    handler.handle(record, effects)
    await handler.complete(effects)
    assert (effects, runs.refreshes) == (Effects(), 0)
