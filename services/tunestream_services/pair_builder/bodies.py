"""Bodies that are too large for a record: they lie in the artifact store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pydantic import ValidationError

from tunestream.artifacts import ArtifactStore
from tunestream.domain.effects import Effects, Outbound, Refused
from tunestream.domain.refusals import refusal_of
from tunestream.domain.turns.core import PairBuilder
from tunestream.events.scores import ScoreAnswer, ScoreAnswerRef, ScoreRequest, ScoreRequestRef
from tunestream.events.trajectories import TrajectoryGroupRef
from tunestream.events.ttc import Tick
from tunestream.streams.tasks.handler import Inbound

__all__ = ["LargeBodies"]


class LargeBodies:
    """Moves large bodies to the artifact store, and fetches those of answers.

    Args:
        store: the artifact store.
        largest: bytes of the largest body that a record holds.
    """

    def __init__(self, store: ArtifactStore, largest: int) -> None:
        self._store = store
        self._largest = largest
        self._answers: dict[str, ScoreAnswer | Refused] = {}

    async def move(self, effects: Effects) -> None:
        """Put the bodies of large outputs into the store, and records that name them in their place."""
        for output in effects.outbound:
            if type(output.body) is not Tick:
                output.payload = output.encoded()
                if len(output.payload) > self._largest:
                    await self._move(output, output.payload)

    async def _move(self, output: Outbound, payload: bytes) -> None:
        stored = await asyncio.to_thread(self._store.put_bytes, payload)
        if output.topic == "ttc.unscored":
            asked = ScoreRequest.of_service(payload)
            output.body = ScoreRequestRef(
                run_id=asked.run_id,
                example_id=asked.example_id,
                turn_id=asked.turn_id,
                request_id=asked.request_id,
                **stored._asdict(),
            )
        else:
            output.body = TrajectoryGroupRef(run_id=output.key[0], group_id=output.id, **stored._asdict())
        output.payload = None

    async def fetch(self, records: Sequence[Inbound], builder: PairBuilder) -> None:
        """Fetch the bodies of the answers that are awaited."""
        self._answers.clear()
        for record in records:
            ref = record.body
            if type(ref) is ScoreAnswerRef and builder.waiting.awaits(
                (ref.run_id, ref.example_id, ref.turn_id), ref.request_id
            ):
                self._answers[ref.request_id] = await self._read(ref)

    async def _read(self, ref: ScoreAnswerRef) -> ScoreAnswer | Refused:
        content = await asyncio.to_thread(self._store.get_bytes, ref.uri, ref.sha256)
        try:
            return ScoreAnswer.of_service(content)
        except ValidationError as error:
            return refusal_of(error, ScoreAnswer.__name__)

    def answer(self, body: ScoreAnswer | ScoreAnswerRef) -> ScoreAnswer | None:
        """Return an answer whole; None for one that is not awaited.

        Raises:
            Refused: when what is stored is no answer.
        """
        if isinstance(body, ScoreAnswer):
            return body
        found = self._answers.get(body.request_id)
        if isinstance(found, Refused):
            raise found
        return found
