"""One turn of an agent: a prompt and its candidates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from tunestream.events.base import Metadata
from tunestream.events.messages import OpenAIMessage
from tunestream.events.ttc import PublishedPrompt, PublishedResponse, TTCCandidate, TTCTurnEnd
from tunestream.events.turns import TTCTurn, TTCTurnCandidate
from tunestream.rows.messages import prompt_of, response_of
from tunestream.sdk.pieces import beyond_single, piece_of, refuse_present
from tunestream.sdk.text import check_text

__all__ = ["Turn", "TurnEvent", "TurnReceipt", "published_response"]

TurnEvent = TTCTurn | TTCCandidate | TTCTurnEnd


@dataclass(frozen=True, slots=True)
class TurnReceipt:
    """Where a published turn is: what a later score needs. Its fields are plain values, to be kept as JSON.

    Attributes:
        run_id: as it was published.
        example_id: as it was published.
        turn_id: as it was published.
        candidate_ids: of the candidates, in the order in which they were added; may be empty where
            somebody makes a receipt of ids alone.
        partition: of ``ttc.events`` in which the turn lies, None when it is not known.
    """

    run_id: str
    example_id: str
    turn_id: str
    candidate_ids: Sequence[str] = ()
    partition: int | None = None


class Turn:
    """Collects the candidates of one turn; nothing is sent before the turn is left, unless it streams.

    Attributes:
        run_id: the run that the candidates are for.
        example_id: what was played or solved, e.g. one game; its turns stay in order.
        turn_id: unique within the example.
        candidates: what was collected so far.
        dropped: keys of messages that are not sent, counted.
        receipt: once it is published.

    Raises:
        pydantic.ValidationError: when a field is wrong, or a text cannot be written as UTF-8.
        MessageError: when the prompt is neither text nor messages that can be trained on; it is a ValueError
            that names the field.
        NotInThisFormat: when the deployment cannot hold what is given.
    """

    def __init__(
        self,
        run_id: str,
        example_id: str,
        turn_id: str,
        *,
        prompt: PublishedPrompt,
        expected: int | None = None,
        policy_version: str | None = None,
        tools: list[dict[str, Any]] | None = None,
        prompt_token_ids: list[int] | None = None,
        old_format: int | None = None,
        added: Callable[[TurnEvent], None] | None = None,
    ) -> None:
        """See :meth:`TTCPublisher.turn`.

        Args:
            run_id: see there.
            example_id: see there.
            turn_id: see there.
            prompt: see there.
            expected: see there.
            policy_version: see there.
            tools: see there.
            prompt_token_ids: see there.
            old_format: what the deployment writes, where that holds no turn records; else None.
            added: takes each candidate as it is added, as an event of its own.
        """
        self.run_id = run_id
        self.example_id = example_id
        self.turn_id = turn_id
        self.candidates: list[TTCTurnCandidate] = []
        self.dropped: Counter[str] = Counter()
        self.receipt: TurnReceipt | None = None
        self._old_format = old_format
        self._added = added
        check_text("TTCTurn", {"prompt": prompt, "tools": tools, "policy_version": policy_version})
        refuse_present({"tools": tools, "prompt_token_ids": prompt_token_ids}, old_format)
        self._empty = TTCTurn(
            run_id=run_id,
            example_id=example_id,
            turn_id=turn_id,
            prompt=prompt_of(prompt, "prompt", self.dropped),
            tools=tools,
            prompt_token_ids=prompt_token_ids,
            candidates=[_NONE],
            complete=expected is None,
            expected_candidates=expected,
            policy_version=policy_version,
        ).model_copy(update={"candidates": []})

    def candidate(
        self,
        response: PublishedResponse | OpenAIMessage,
        *,
        score: float | None = None,
        index: int | None = None,
        candidate_id: str | None = None,
        token_ids: list[int] | None = None,
        policy_version: str | None = None,
        metadata: Metadata | None = None,
    ) -> TTCTurnCandidate:
        """Add a candidate.

        Args:
            response: what the model answered: text, or an assistant's message, with its tool calls.
            score: the reward, finite; higher is better. None where the run's scores come later.
            index: its place in the turn; by default they are counted from 0.
            candidate_id: unique within the turn. By default a new one each time; give your own when you
                may publish the same candidate again, so that it counts once.
            token_ids: the response's tokens, by the numbers of the model's own tokenizer.
            policy_version: the model version that answered, else the turn's.
            metadata: anything JSON, kept beside the candidate.

        Raises:
            pydantic.ValidationError: naming the field that is wrong.
            MessageError: when the response is a message that is no assistant's, or cannot be trained on.
            NotInThisFormat: when the deployment cannot hold it.
            EventTooLarge: when the turn streams and the candidate is larger than the topic takes.
        """
        if isinstance(response, OpenAIMessage):
            response = response.model_dump(exclude_none=True)
        check_text("TTCTurnCandidate", {"response": response, "metadata": metadata})
        candidate = TTCTurnCandidate(
            candidate_id=uuid4().hex if candidate_id is None else candidate_id,
            candidate_index=len(self.candidates) if index is None else index,
            response=response,
            score=score,
            policy_version=policy_version,
            token_ids=token_ids,
            metadata=metadata,
        )
        if not isinstance(candidate.response, str):
            read = published_response(candidate.response, "response", self.dropped)
            candidate = candidate.model_copy(update={"response": read})
        refuse_present(beyond_single(candidate), self._old_format)
        if self._added is not None:
            self._added(piece_of(self._empty, candidate))
        self.candidates.append(candidate)
        return candidate

    @property
    def streams(self) -> bool:
        """Whether its candidates are sent as they are added."""
        return self._added is not None

    def whole(self) -> TTCTurn:
        """Return the turn as one event; it has at least one candidate."""
        return self._empty.model_copy(update={"candidates": [*self.candidates]})

    def events(self) -> list[TurnEvent]:
        """Return the turn as single events: its candidates, and its end unless their number was announced."""
        return [*(piece_of(self._empty, candidate) for candidate in self.candidates), *self.end()]

    def end(self) -> list[TTCTurnEnd]:
        """Return the event that ends the turn, none where it is empty or ends with its last candidate."""
        if not self.candidates or self._empty.expected_candidates is not None:
            return []
        return [TTCTurnEnd(run_id=self.run_id, example_id=self.example_id, turn_id=self.turn_id)]


_NONE = TTCTurnCandidate(candidate_id="none", response="")


def published_response(value: object, field: str, dropped: Counter[str]) -> PublishedResponse:
    """Read a response as it is published: text, or a message with what it has beside.

    Raises:
        MessageError: when it is neither text nor an assistant's message.
    """
    response = response_of(value, field, dropped)
    return response if isinstance(response, str) else response.model_dump(exclude_none=True)
