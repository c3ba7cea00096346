"""The end of a turn: it becomes a group, or waits for scores until it does."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

import orjson

from tunestream.domain.effects import Effects, Outbound, Refused, Spliced
from tunestream.domain.scoring.asked import Asked
from tunestream.domain.scoring.given import TurnKey
from tunestream.domain.scoring.rules import ScoringRules
from tunestream.domain.scoring.turns import NO_SCORES, Scores
from tunestream.domain.scoring.waiting import Waiting
from tunestream.domain.turns.close_group import emit_group
from tunestream.domain.turns.given_scores import with_scores
from tunestream.domain.turns.members import fingerprints
from tunestream.domain.turns.memory import memory_name
from tunestream.domain.turns.open_turn import OpenTurn
from tunestream.domain.turns.partition_state import PartitionState
from tunestream.domain.turns.run_state import TURN
from tunestream.domain.turns.turn_group import (
    TurnGroup,
    expanded_group,
    group_of_turn,
    written_contexts,
    written_members,
)
from tunestream.events.ids import content_digest, group_id, stable_id
from tunestream.events.keys import encode_key
from tunestream.events.runs import TURN_FORMAT
from tunestream.events.scores import AskedMember, ScoreAnswer, ScoreStep
from tunestream.events.trajectories import CloseReason, TrajectoryGroup
from tunestream.events.turns import TurnMember, TurnStep
from tunestream.events.views.candidates import TurnView

__all__ = ["TurnEnding"]


class TurnEnding:
    """Ends the turns of a partition.

    Args:
        state: of the partition.
        number: the format that the deployment writes.
        has_service: whether a reward service answers requests.
        take_group: takes the groups of turns; None sends them on to the gate.

    Attributes:
        waiting: the turns that wait for scores.
    """

    def __init__(
        self,
        state: PartitionState,
        number: Callable[[], int],
        has_service: Callable[[], bool],
        take_group: Callable[[TurnGroup], None] | None = None,
    ) -> None:
        self._state = state
        self._number = number
        self._take_group = take_group
        self.waiting = Waiting[OpenTurn](
            self, self._rules, self._is_open, lambda: has_service() and number() >= TURN_FORMAT
        )

    def end(self, key: TurnKey, turn: OpenTurn, reason: CloseReason, at: int, effects: Effects) -> None:
        """End a turn that is in no state any more: close it, or have it wait for its scores.

        Args:
            key: of the turn.
            turn: with at least one candidate.
            reason: why it takes no more candidates.
            at: stream time of the decision, ms.
            effects: receives what is to be done.
        """
        if turn.is_scored and not self.waiting.has_scores:
            self._emit(key, turn, reason, at, NO_SCORES, effects)
            self._remember(key, turn, at, effects)
            return
        if not turn.is_settled:
            run, example, turn_id = key
            state_key, value = turn.settle(encode_key(TURN, run, example, f"={turn_id}", turn.config_digest))
            effects.changes[state_key] = value
        self._remember(key, turn, at, effects)
        scores = self.waiting.complete(key, turn, reason, at, effects)
        if scores is not None:
            self._emit(key, turn, reason, at, scores, effects)

    def score(self, step: ScoreStep, config_digest: str, *, everywhere: bool, effects: Effects) -> None:
        """Take a score; one for a turn that became a group is counted, and changes nothing.

        Args:
            step: the score.
            config_digest: of the configuration by which it waits for its candidate.
            everywhere: whether copies of it went to every partition.
            effects: receives what is to be done.

        Raises:
            Refused: when its turn takes no such candidate any more.
        """
        run = self._state.run(step.run_id)
        key = (step.run_id, step.example_id, step.turn_id)
        if step.turn_id not in run.turns.get(step.example_id, {}) and key not in self.waiting:
            name = memory_name(TURN, step.example_id, step.turn_id)
            closed = run.memory.get(name)
            if closed is not None and closed.recall(step.candidate_id) is None:
                raise Refused(
                    "late", f"turn {step.turn_id!r} was closed, and has no candidate that this score is of"
                )
            if closed is not None or run.memory.has_faded(name):
                effects.counts["score_late"] += 1
                return
        self.waiting.score(step, config_digest, self._state.now, everywhere=everywhere, effects=effects)

    def close(
        self, key: TurnKey, turn: OpenTurn, reason: CloseReason, at: int, scores: Scores, effects: Effects
    ) -> None:
        """Emit the group of a turn that waited, and drop what is kept of it."""
        self._emit(key, turn, reason, at, scores, effects)
        run, name = self._state.run(key[0]), memory_name(TURN, key[1], key[2])
        if run.memory.get(name) is None and not run.memory.has_faded(name):
            self._remember(key, turn, self._state.now, effects)

    def ask(self, key: TurnKey, turn: OpenTurn, at: int, scores: Scores, effects: Effects) -> str:
        """Send the request for a turn's scores, drop the turn, and return the request's id."""
        run, example, turn_id = key
        members = with_scores(turn.members, scores)
        asked = {"contexts": written_contexts(members), "members": written_members(members)}
        group = group_id(run, example, turn_id, members.candidates[0].candidate_id)
        request_id = stable_id("request", group, content_digest(orjson.dumps(asked)))
        names = {"run_id": run, "example_id": example, "turn_id": turn_id, "request_id": request_id}
        effects.outbound.append(
            Outbound(
                topic="ttc.unscored",
                body=Spliced("tunestream.unscored.v1", orjson.dumps(names | asked)),
                id=request_id,
                time=at,
                key=(run, example),
                extensions={"tsdigest": turn.config_digest},
                partition=self._state.partition,
            )
        )
        effects.changes.update(dict.fromkeys(turn.keys))
        return request_id

    def rebuild(self, key: TurnKey, asked: Asked, answer: ScoreAnswer) -> OpenTurn:
        """Make the turn of its answer again, with the scores that its candidates came with."""
        turn = OpenTurn(asked.config_digest, self._state.rules(key[0], asked.config_digest), asked.at)
        members = [
            member.model_copy(update={"score": None}) if position in asked.unscored else member
            for position, member in enumerate(answer.members)
        ]
        for place, part in groupby(members, key=lambda member: member.context):
            step = _step(answer, place, list(part))
            turn.accept(step, step.candidates, fingerprints(step.candidates), b"", asked.at)
        return turn

    def reopen(self, key: TurnKey) -> OpenTurn:
        """Take a turn out of the open ones: it was restored, and waits."""
        run, example, turn_id = key
        return self._state.remove_turn(self._state.run(run), example, turn_id)

    def _emit(
        self, key: TurnKey, turn: OpenTurn, reason: CloseReason, at: int, scores: Scores, effects: Effects
    ) -> None:
        run, example, turn_id = key
        group = group_of_turn(turn, run, example, turn_id, reason, scores)
        if self._take_group is None:
            body = self._body(group, turn)
            emit_group(self._state, body, group.id(), turn.config_digest, run, reason, at, effects)
        else:
            self._take_group(group)
        effects.changes.update(dict.fromkeys(turn.keys))
        if not turn.is_scored:
            effects.counts["unscored"] += sum(one not in scores for one in turn.unscored)

    def _body(self, group: TurnGroup, turn: OpenTurn) -> Spliced | TrajectoryGroup:
        compact = self._number() >= TURN_FORMAT and not turn.rules.expanded
        value = group.encode()
        return Spliced("tunestream.trajectory_group.v2", value) if compact else expanded_group(value)

    def _remember(self, key: TurnKey, turn: OpenTurn, at: int, effects: Effects) -> None:
        of_content = self._number() >= TURN_FORMAT
        marks = turn.marks if of_content else turn.marks | turn.raw_marks
        name = memory_name(TURN, key[1], key[2])
        run = self._state.run(key[0])
        self._state.memory.add(run, {name: marks}, at, turn.rules, effects, of_content=of_content)

    def _rules(self, run_id: str, config_digest: str) -> ScoringRules | None:
        return self._state.rules(run_id, config_digest).scoring

    def _is_open(self, key: TurnKey, candidate_id: str) -> bool:
        run, example, turn_id = key
        turn = self._state.run(run).turns.get(example, {}).get(turn_id)
        return turn is not None and candidate_id in turn.marks


def _step(answer: ScoreAnswer, place: int, members: list[AskedMember]) -> TurnView:
    context = answer.contexts[place]
    step = TurnStep.of_valid(
        run_id=answer.run_id,
        example_id=answer.example_id,
        turn_id=answer.turn_id,
        prompt=context.prompt,
        tools=context.tools,
        prompt_token_ids=context.token_ids,
        candidates=[
            TurnMember.of_valid(
                candidate_id=member.id,
                candidate_index=member.index,
                response=member.response,
                score=member.score,
                policy_version=member.policy_version,
                token_ids=member.token_ids,
                raw_metadata=member.metadata,
            )
            for member in members
        ],
        complete=False,
        expected_candidates=None,
    )
    return TurnView.of(step)
