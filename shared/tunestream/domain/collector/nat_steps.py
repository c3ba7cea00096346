"""From a step of the NeMo Agent Toolkit to a candidate or a marker."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from tunestream.domain.collector.bounds import LARGEST_SCORE, check_name, check_range
from tunestream.domain.collector.nat_parity import NATCandidate, parity_prompt, parity_response
from tunestream.domain.collector.normaliser import single
from tunestream.domain.collector.prompts import read_prompt, read_response, without_answer
from tunestream.domain.collector.rules import CandidateRules
from tunestream.domain.effects import Refused
from tunestream.events.base import NotKept, check_kept
from tunestream.events.ids import candidate_id
from tunestream.events.messages import Prompt, Response
from tunestream.events.nat import IntermediateStep, IntermediateStepType
from tunestream.events.ttc import CandidateStep, ExampleEnd, TTCEventData
from tunestream.events.turns import TurnMember, TurnStep

__all__ = [
    "PromptReader",
    "candidate_of_data",
    "normalise_nat",
    "read_fields",
]

_INPUT: Final = "payload.data.input"
_OUTPUT: Final = "payload.data.output"
_PUBLISHED: Final = CandidateRules()


def normalise_nat(
    step: IntermediateStep,
    *,
    run_id: str,
    example_id: str,
    ttc_step_name: str,
    parity: bool = False,
    dropped: Counter[str] | None = None,
    rules: CandidateRules = _PUBLISHED,
) -> CandidateStep | TurnStep | ExampleEnd | None:
    """Normalise a step of the NeMo Agent Toolkit; None for the kinds of steps that are ignored.

    ``parity`` reads a candidate's fields as the toolkit's own trajectory builder does: a missing index is
    0, a missing output is empty, and what is neither text nor messages is Python's rendering of it.
    ``dropped`` counts the keys of messages that are left out. ``rules`` are those of the run.

    Raises:
        Refused: when a candidate lacks a field, its score is out of range, or its input or output is neither
            text nor messages.
    """
    payload = step.payload
    if payload.event_type is IntermediateStepType.WORKFLOW_END:
        return ExampleEnd(run_id=run_id, example_id=example_id)
    if payload.event_type is not IntermediateStepType.TTC_END or payload.name != ttc_step_name:
        return None
    data = payload.data
    if data is None:
        raise Refused(
            "schema.missing", "payload.data is missing; a candidate needs turn_id, score and output"
        )
    fields = {"input": data.input, "output": data.output, **(data.model_extra or {})}
    return candidate_of_data(
        fields,
        run_id=run_id,
        example_id=example_id,
        source_id=payload.UUID,
        metadata=payload.metadata,
        parity=parity,
        read_input=PromptReader(dropped),
        rules=rules,
    )


class PromptReader:
    """Reads inputs of steps; that of the candidate before is not read again, as those of a turn are equal.

    Args:
        dropped: counts the keys of messages that are left out.
    """

    def __init__(self, dropped: Counter[str] | None = None) -> None:
        self.dropped: Counter[str] = Counter() if dropped is None else dropped
        self._input: object = None
        self._prompt: Prompt = ""

    def __call__(self, value: object, *, parity: bool = False) -> Prompt:
        """Return the prompt.

        Raises:
            Refused: when it is neither text nor messages, except in parity.
        """
        if value != self._input:
            self._prompt = parity_prompt(value) if parity else read_prompt(value, _INPUT, self.dropped)
            self._input = value
        return self._prompt


class _Fields(NamedTuple):
    """A candidate as it is read of a step outside of parity."""

    turn_id: str
    candidate_index: int | None
    prompt: Prompt
    response: Response
    score: float | None
    raw_metadata: dict[str, Any]


def candidate_of_data(
    data: Mapping[str, Any],
    *,
    run_id: str,
    example_id: str,
    source_id: str | None,
    metadata: dict[str, Any] | None,
    parity: bool = False,
    read_input: PromptReader | None = None,
    rules: CandidateRules = _PUBLISHED,
) -> CandidateStep | TurnStep:
    """Make a candidate of the ``data`` of a ``TTC_END`` step; ``read_input`` as for :func:`read_fields`.

    Raises:
        Refused: when a field is missing, of a wrong type or out of range.
    """
    fields = _fields(example_id, data, metadata or {}, parity=parity, read_input=read_input, rules=rules)
    if not source_id and not parity:
        raise Refused(
            "schema.missing", "payload.UUID is missing; without it a repeat looks like a new candidate"
        )
    if not parity:
        _check_metadata(metadata)
    check_name("run_id", run_id)
    check_name("example_id", example_id)
    member = TurnMember.of_valid(
        candidate_id=candidate_id(run_id, example_id, fields.turn_id, source_id or ""),
        candidate_index=fields.candidate_index,
        response=fields.response,
        score=fields.score,
        policy_version=_policy_version(metadata),
        token_ids=None,
        raw_metadata=fields.raw_metadata,
    )
    keeps = parity or rules.keeps_answers
    prompt = fields.prompt if keeps else without_answer(fields.prompt, fields.response)
    return single(run_id, example_id, fields.turn_id, member, prompt)


def read_fields(
    example_id: str, data: Mapping[str, Any], metadata: dict[str, Any], read_input: PromptReader | None = None
) -> NATCandidate:
    """Read a ``TTC_END`` step as the toolkit does; ``read_input`` may be that of the candidates before.

    Raises:
        Refused: when a field is missing, of a wrong type or out of range.
    """
    turn_id, index, score = _typed(data, parity=True)
    assert score is not None
    reader = PromptReader() if read_input is None else read_input
    prompt = reader(data.get("input"), parity=True)
    return NATCandidate(
        example_id, turn_id, index or 0, prompt, parity_response(data.get("output")), score, metadata
    )


def _fields(
    example_id: str,
    data: Mapping[str, Any],
    metadata: dict[str, Any],
    *,
    parity: bool,
    read_input: PromptReader | None,
    rules: CandidateRules,
) -> NATCandidate | _Fields:
    if parity:
        return read_fields(example_id, data, metadata, read_input)
    turn_id, index, score = _typed(data, later=rules.scores_later)
    reader = PromptReader() if read_input is None else read_input
    prompt = reader(data.get("input"))
    return _Fields(turn_id, index, prompt, _response(data.get("output"), reader.dropped), score, metadata)


def _response(value: object, dropped: Counter[str]) -> Response:
    if value is None:
        raise Refused("schema.missing", f"{_OUTPUT} is missing; a candidate needs its response")
    return value if isinstance(value, str) else read_response(value, _OUTPUT, dropped)


def _typed(
    data: Mapping[str, Any], *, parity: bool = False, later: bool = False
) -> tuple[str, int | None, float | None]:
    """Return turn id, index and score of a candidate; a score may be missing if it comes later."""
    turn_id, index, score = data.get("turn_id"), data.get("candidate_index"), data.get("score")
    if type(turn_id) is not str or type(score) is not float or type(index) is not int:
        fields = {"turn_id": turn_id, "candidate_index": index, "score": score}
        turn_id, index, score = _coerced(fields, later=later)
    if not turn_id and not parity:
        raise Refused("schema.bounds", "payload.data.turn_id is empty; name the turn")
    if score is not None:
        check_range("payload.data.score", score, largest=sys.float_info.max if parity else LARGEST_SCORE)
    return turn_id, index, score


def _coerced(fields: dict[str, Any], *, later: bool) -> tuple[str, int | None, float | None]:
    for name in ("turn_id",) if later else ("turn_id", "score"):
        if fields[name] is None:
            raise Refused(
                "schema.missing", f"payload.data.{name} is missing; a candidate needs turn_id and score"
            )
    try:
        typed = TTCEventData.model_validate(fields)
    except ValidationError as error:
        if error.errors()[0]["type"] == "finite_number":
            raise Refused("non_finite", "payload.data.score is not finite; send a finite number") from None
        raise Refused("schema.wrong_type", f"payload.data.{_first_error(error)}") from None
    assert typed.turn_id is not None
    return typed.turn_id, typed.candidate_index, typed.score


def _check_metadata(metadata: Mapping[str, Any] | None) -> None:
    try:
        check_kept(metadata)
    except NotKept as error:
        raise Refused(error.code, f"payload.metadata: {error}") from None


def _policy_version(metadata: Mapping[str, Any] | None) -> str | None:
    version = (metadata or {}).get("policy_version")
    return version if isinstance(version, str) and version else None


def _first_error(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
