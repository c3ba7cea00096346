"""The same turn as one record: published, collected, scored later, as a group and in a window."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from tools.wire.scene import (
    AGENT,
    CONFIG,
    EXAMPLE,
    PARTITION,
    POLICY,
    PROMPT,
    RUN,
    TIME,
    TOOLS,
    TURN,
    stored_at,
)
from tunestream.domain.effects import Outbound
from tunestream.events.base import Wire
from tunestream.events.cloudevents import Envelope
from tunestream.events.groups import GroupContext, GroupMember, PairingRule, PreferenceGroup
from tunestream.events.ids import candidate_id, content_digest, group_id, stable_id
from tunestream.events.messages import ChatMessage, ToolCall, ToolFunction
from tunestream.events.registry import type_of
from tunestream.events.scores import (
    AskedMember,
    ScoreAnswer,
    ScoreAnswerRef,
    ScoreRequest,
    ScoreRequestRef,
    ScoreStep,
    TTCScore,
)
from tunestream.events.trajectories import CloseReason
from tunestream.events.turns import TTCTurn, TTCTurnCandidate, TurnMember, TurnStep
from tunestream.events.windows import CurriculumWindow
from tunestream.streams.publish import EncodedRecord, event_record

__all__ = ["answered", "asked", "collected_turn", "decided", "grouped", "published_turn"]

_CALL: Final = ChatMessage(
    role="assistant",
    content="",
    tool_calls=[ToolCall(id="call-1", function=ToolFunction(name="play", arguments='{"field": 4}'))],
    reasoning_content="4 blocks the row.",
)
_TEXT: Final = "3"
_LATER: Final = "turn-5"  # its candidates come without scores
_SAMPLED: Final = {"temperature": 0.8}
_PROMPT_TOKENS, _TEXT_TOKENS = [151644, 8948, 198, 2610], [18, 151645]


def published_turn() -> Iterator[EncodedRecord]:
    """Yield a whole turn with tools as an agent sends it, and a score as a person gives it."""
    turn = TTCTurn(
        run_id=RUN,
        example_id=EXAMPLE,
        turn_id=TURN,
        prompt=PROMPT,
        tools=TOOLS,
        prompt_token_ids=_PROMPT_TOKENS,
        candidates=[
            TTCTurnCandidate(
                candidate_id="c0",
                candidate_index=0,
                response=_CALL.model_dump(),
                score=0.75,
                metadata=_SAMPLED,
            ),
            TTCTurnCandidate(
                candidate_id="c1", candidate_index=1, response=_TEXT, score=-0.25, token_ids=_TEXT_TOKENS
            ),
        ],
        policy_version=POLICY,
    )
    yield _sent(turn, AGENT, stable_id("turn", RUN, EXAMPLE, TURN))
    score = TTCScore(
        run_id=RUN,
        example_id=EXAMPLE,
        turn_id=_LATER,
        candidate_id="c0",
        score=0.5,
        source="reviewer-7",
        metadata={"took_seconds": 41},
    )
    yield _sent(score, "/reviewers/7", stable_id("score", RUN, EXAMPLE, _LATER, "c0", "reviewer-7"))


def _sent(body: TTCTurn | TTCScore, source: str, identity: str) -> EncodedRecord:
    envelope = Envelope(id=identity, type=type_of(body), source=source, time=TIME)
    return event_record("ttc.events", (body.run_id, body.example_id), body.to_json(), envelope)


def collected_turn() -> list[Outbound]:
    """Return what the collector makes of a single candidate without a score, and of its score."""
    member = _id(_LATER, "c0")
    turn = TurnStep(
        run_id=RUN,
        example_id=EXAMPLE,
        turn_id=_LATER,
        prompt=PROMPT,
        candidates=[
            TurnMember(candidate_id=member, candidate_index=0, response="4", policy_version=POLICY),
        ],
        complete=False,
        expected_candidates=2,
    )
    score = ScoreStep(
        run_id=RUN,
        example_id=EXAMPLE,
        turn_id=_LATER,
        candidate_id=member,
        score=0.5,
        source="reviewer-7",
        raw_metadata={"took_seconds": 41},
    )
    return [
        _output("ttc.candidates", turn, stable_id("turn-part", member), tsorigin=f"{PARTITION}/1046"),
        _output(
            "ttc.candidates",
            score,
            stable_id("score-step", member, "reviewer-7"),
            tsorigin=f"{PARTITION}/1047",
        ),
    ]


def _id(turn: str, name: str) -> str:
    return candidate_id(RUN, EXAMPLE, turn, name)


def _output(topic: str, body: Wire, identity: str, *, of_run: bool = False, **extensions: str) -> Outbound:
    """Return an output of a service; what belongs to an example lies where its events do."""
    return Outbound(
        topic,
        body,
        identity,
        TIME,
        (RUN,) if of_run else (RUN, EXAMPLE),
        {"tsdigest": CONFIG.digest, **extensions},
        partition=None if of_run else PARTITION,
    )


_REQUEST: Final = stable_id("request", group_id(RUN, EXAMPLE, _LATER, _id(_LATER, "c0")))
_ASKED: Final[dict[str, Any]] = {
    "run_id": RUN,
    "example_id": EXAMPLE,
    "turn_id": _LATER,
    "request_id": _REQUEST,
}
_CONTEXTS: Final = [GroupContext(prompt=PROMPT)]


def _members(*, scored: bool) -> list[AskedMember]:
    """Return the candidates of the turn that waits: one has a score, for one there will be none."""
    return [
        AskedMember(id=_id(_LATER, "c0"), index=0, response="4", policy_version=POLICY, score=0.5),
        AskedMember(
            id=_id(_LATER, "c1"), index=1, response="9", policy_version=POLICY, score=-1.0 if scored else None
        ),
        AskedMember(
            id=_id(_LATER, "c2"),
            index=2,
            response="ten",
            policy_version=POLICY,
            none="ValueError: invalid literal for int(): 'ten'" if scored else None,
        ),
    ]


def asked() -> list[Outbound]:
    """Return the pair builder's request for the scores of a complete turn, and one that is a reference."""
    body = ScoreRequest(**_ASKED, contexts=_CONTEXTS, members=_members(scored=False))
    stored = ScoreRequestRef(**_ASKED, **_stored(b"request"))
    return [_output("ttc.unscored", one, _REQUEST) for one in (body, stored)]


def answered() -> list[Outbound]:
    """Return the answers to both requests."""
    body = ScoreAnswer(**_ASKED, contexts=_CONTEXTS, members=_members(scored=True))
    stored = ScoreAnswerRef(**_ASKED, **_stored(b"answer"))
    return [_output("ttc.scores", one, stable_id("answer", _REQUEST)) for one in (body, stored)]


def _stored(content: bytes) -> dict[str, Any]:
    """Return where a body lies that is too large for a record."""
    sha256 = content_digest(content)
    return {"uri": stored_at(sha256), "sha256": sha256, "size": 5_242_880}


def grouped() -> list[Outbound]:
    """Return the group of the turn, its members once."""
    first, second = _id(TURN, "c0"), _id(TURN, "c1")
    members = [
        GroupMember(id=first, index=0, response=_CALL, score=0.75, policy_version=POLICY, metadata=_SAMPLED),
        GroupMember(
            id=second, index=1, response=_TEXT, score=-0.25, policy_version=POLICY, token_ids=_TEXT_TOKENS
        ),
    ]
    group = PreferenceGroup(
        run_id=RUN,
        group_id=group_id(RUN, EXAMPLE, TURN, first),
        example_id=EXAMPLE,
        turn_id=TURN,
        config_digest=CONFIG.digest,
        closed_by=CloseReason.COMPLETE,
        contexts=[GroupContext(prompt=PROMPT, tools=TOOLS, token_ids=_PROMPT_TOKENS)],
        members=members,
        pairing=PairingRule(exhaustive=False, reward="score_diff"),
        pairs=[(0, 1, 1.0)],
    )
    return [_output("trajectories", group, group.group_id, of_run=True, tspartition=str(PARTITION))]


def decided(batch: str) -> list[Outbound]:
    """Return what the curriculum gate decided about the groups of a window.

    Args:
        batch: id of the batch that it made.
    """
    names = [group_id(RUN, EXAMPLE, turn, _id(turn, "c0")) for turn in (TURN, "turn-4", _LATER)]
    window = CurriculumWindow(
        run_id=RUN,
        config_digest=CONFIG.digest,
        epoch=0,
        batch_id=batch,
        selected=names[:2],
        left_out={"percentile": names[2:]},
        unscored=1,
        skipped={"tie": 3},
    )
    identity = stable_id("window", RUN, CONFIG.digest, "0")
    return [_output("training.batches", window, identity, of_run=True)]
