"""What a record of ``ttc.events`` names and holds, normalised under its run's rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from tunestream.config.run.run import RunConfig
from tunestream.config.run.trajectory_builder import DPOTrajectoryBuilderConfig
from tunestream.domain.collector.at_once import Written, candidate_at_once, turn_at_once
from tunestream.domain.collector.core import Normalised
from tunestream.domain.collector.formats import as_format, in_pieces
from tunestream.domain.collector.nat_steps import normalise_nat
from tunestream.domain.collector.normaliser import Published, normalise_native, normalise_score
from tunestream.domain.collector.rules import CandidateRules, Fault
from tunestream.domain.collector.turns import normalise_turn
from tunestream.domain.effects import Refused
from tunestream.events.keys import encode_key
from tunestream.events.nat import IntermediateStep
from tunestream.events.runs import TURN_FORMAT
from tunestream.events.scores import EVERYWHERE, TTCScore
from tunestream.events.ttc import CandidateStep, TTCCandidate
from tunestream.events.turns import ReceivedTurn, TTCTurn
from tunestream.events.views.published import PublishedCandidate, PublishedTurn
from tunestream.streams.tasks.handler import Inbound

__all__ = ["Taken", "check_key", "is_everywhere", "named_run", "names_of", "normalise"]

_LONGEST_NAME: Final = 512
_VIEWS: Final = (PublishedCandidate, PublishedTurn)


class Taken(NamedTuple):
    """What is taken of a record.

    Attributes:
        bodies: what is emitted, in order; what was put together of slices has its id.
        faults: candidates that are left out.
        among: how many candidates the record has.
        repeats: how many of them the record has twice.
    """

    bodies: Sequence[Normalised | Written]
    faults: Sequence[Fault] = ()
    among: int = 1
    repeats: int = 0


def named_run(record: Inbound) -> str | None:
    """Return the run that a record names, None when it names none."""
    body = record.body
    # Views first: what is no pydantic class is found out slowly, by its metaclass.
    if not isinstance(body, _VIEWS) and isinstance(body, IntermediateStep):
        return record.envelope.extensions.get("tsrun") or None
    return getattr(body, "run_id", None)


def names_of(record: Inbound) -> tuple[str, str]:
    """Return the run and the example of a record.

    Raises:
        Refused: when a NAT step comes without them.
    """
    body = record.body
    if isinstance(body, _VIEWS):
        return body.run_id, body.example_id
    if not isinstance(body, IntermediateStep):
        assert isinstance(body, TTCTurn | TTCScore | Published)
        return body.run_id, body.example_id
    extensions = record.envelope.extensions
    for name in ("tsrun", "tsexample"):
        value = extensions.get(name)
        if not value:
            raise Refused(
                "schema.missing",
                f"header ce_{name} is missing; a NAT step has neither run nor example, so send them as "
                "ce_tsrun and ce_tsexample",
            )
        if len(value) > _LONGEST_NAME:
            raise Refused(
                "schema.bounds",
                f"header ce_{name} has {len(value)} characters; send at most {_LONGEST_NAME}",
            )
    return extensions["tsrun"], extensions["tsexample"]


def is_everywhere(record: Inbound) -> bool:
    """Return whether a record is one of the copies of a score that lie in every partition."""
    return type(record.body) is TTCScore and record.envelope.extensions.get(EVERYWHERE) == "1"


def check_key(record: Inbound, run_id: str, example_id: str) -> None:
    """Make sure that a record lies with the others of its example.

    Raises:
        Refused: when it has another key.
    """
    expected = encode_key(run_id, example_id)
    if record.key != expected:
        raise Refused(
            "wrong_key",
            f"the record's key is {record.key!r}, the body's is {expected!r}; "
            "a turn whose records have different keys is torn apart",
        )


def normalise(
    record: Inbound, config: RunConfig, rules: CandidateRules, number: int, dropped: Counter[str]
) -> Taken | None:
    """Normalise a record; None for one of a kind that is ignored.

    Args:
        record: of ``ttc.events``, with the names of a run and an example.
        config: of its run.
        rules: of the same run.
        number: the format that the deployment writes.
        dropped: counts the keys of messages that are left out.

    Raises:
        Refused: when nothing of it is taken.
    """
    body = record.body
    if isinstance(body, _VIEWS):
        written = _at_once(body, rules, dropped) if number >= TURN_FORMAT else None
        if written is not None:
            return Taken(written)
        dropped.clear()
        body = _model_of(body, record.value)
    if isinstance(body, TTCTurn):
        turn = normalise_turn(body, rules, dropped)
        bodies = [piece for step in turn.steps for piece in _written(step, number, dropped)]
        return Taken(bodies, turn.faults, len(body.candidates), turn.repeats)
    step: Normalised | None
    if isinstance(body, TTCScore):
        step = normalise_score(body, rules)
    elif isinstance(body, IntermediateStep):
        step = _nat(body, *names_of(record), config, rules, dropped)
    else:
        assert isinstance(body, Published)
        step = normalise_native(body, dropped, rules)
    return None if step is None else Taken(list(_written(step, number, dropped)))


def _at_once(
    body: PublishedCandidate | PublishedTurn, rules: CandidateRules, dropped: Counter[str]
) -> list[Written] | None:
    if isinstance(body, PublishedCandidate):
        return candidate_at_once(body, rules, dropped)
    return turn_at_once(body, rules, dropped)


def _model_of(body: PublishedCandidate | PublishedTurn, value: bytes) -> TTCCandidate | TTCTurn:
    """Return the model of a view, which accepts less than the view's model does."""
    model = TTCCandidate if isinstance(body, PublishedCandidate) else ReceivedTurn
    return model.model_validate_json(value)


def _nat(
    body: IntermediateStep,
    run_id: str,
    example_id: str,
    config: RunConfig,
    rules: CandidateRules,
    dropped: Counter[str],
) -> Normalised | None:
    builder = config.trajectory_builder
    name = builder.ttc_step_name if isinstance(builder, DPOTrajectoryBuilderConfig) else ""
    return normalise_nat(
        body, run_id=run_id, example_id=example_id, ttc_step_name=name, dropped=dropped, rules=rules
    )


def _written(step: Normalised, number: int, dropped: Counter[str]) -> Iterator[Normalised]:
    """Yield what a deployment writes of a normalised body."""
    for piece in in_pieces(step, number):
        yield as_format(piece, number, dropped) if isinstance(piece, CandidateStep) else piece
