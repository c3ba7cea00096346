"""One turn of an agent: a prompt and its scored candidates."""

from __future__ import annotations

from collections import Counter
from uuid import uuid4

from tunestream.events.base import Metadata
from tunestream.events.ttc import PublishedPrompt, PublishedResponse, TTCCandidate, TTCTurnEnd
from tunestream.rows.messages import prompt_of, response_of
from tunestream.sdk.text import check_text

__all__ = ["Turn"]


class Turn:
    """Collects the candidates of one turn; nothing is sent before the turn is left.

    Attributes:
        run_id: the run that the candidates are for.
        example_id: what was played or solved, e.g. one game; its turns stay in order.
        turn_id: unique within the example.
        candidates: what was collected so far.
        dropped: keys of messages that are not sent, counted.

    Raises:
        pydantic.ValidationError: when a text cannot be written as UTF-8.
        MessageError: when the prompt is neither text nor messages that can be trained on; it is a ValueError
            that names the field.
    """

    def __init__(
        self,
        run_id: str,
        example_id: str,
        turn_id: str,
        *,
        prompt: PublishedPrompt,
        expected: int | None,
        policy_version: str | None,
    ) -> None:
        self.run_id = run_id
        self.example_id = example_id
        self.turn_id = turn_id
        self.candidates: list[TTCCandidate] = []
        self.dropped: Counter[str] = Counter()
        check_text("Turn", {"prompt": prompt, "policy_version": policy_version})
        self._prompt = prompt_of(prompt, "prompt", self.dropped)
        self._expected = expected
        self._policy_version = policy_version

    def candidate(
        self,
        response: PublishedResponse,
        *,
        score: float,
        index: int | None = None,
        candidate_id: str | None = None,
        metadata: Metadata | None = None,
    ) -> TTCCandidate:
        """Add a candidate.

        Args:
            response: what the model answered: text, or an assistant's message with text alone.
            score: the reward, finite; higher is better.
            index: its place in the turn; by default they are counted from 0.
            candidate_id: unique within the turn. By default a new one each time; give your own when you
                may publish the same candidate again, so that it counts once.
            metadata: anything JSON, kept beside the candidate.

        Raises:
            pydantic.ValidationError: naming the field that is wrong.
            MessageError: when the response is a message that is no assistant's, or more than text.
        """
        check_text("TTCCandidate", {"response": response, "metadata": metadata})
        candidate = TTCCandidate(
            run_id=self.run_id,
            example_id=self.example_id,
            turn_id=self.turn_id,
            candidate_id=uuid4().hex if candidate_id is None else candidate_id,
            candidate_index=len(self.candidates) if index is None else index,
            prompt=self._prompt,
            response=response,
            score=score,
            expected_candidates=self._expected,
            policy_version=self._policy_version,
            metadata=metadata,
        )
        if not isinstance(candidate.response, str):
            text = response_of(candidate.response, "response", self.dropped)
            candidate = candidate.model_copy(update={"response": text})
        self.candidates.append(candidate)
        return candidate

    def events(self) -> list[TTCCandidate | TTCTurnEnd]:
        """Return what is published: the candidates, and the end unless their number was announced."""
        if not self.candidates or self._expected is not None:
            return [*self.candidates]
        end = TTCTurnEnd(run_id=self.run_id, example_id=self.example_id, turn_id=self.turn_id)
        return [*self.candidates, end]
