"""Where the curricula of a partition's runs stand, in memory and in the gate's changelog."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from tunestream.config.run.curriculum import CurriculumLearningConfig, CurriculumSection
from tunestream.config.run.run import RunConfig
from tunestream.domain.effects import Effects
from tunestream.domain.gate.bodies import Arrival
from tunestream.domain.gate.selection import Epoch, Selection, State
from tunestream.domain.gate.strategy import encode_state, initial_state, run_epoch, state_digest, subsampling
from tunestream.events.base import Wire
from tunestream.events.keys import encode_key
from tunestream.events.training import CurriculumState

__all__ = ["Curricula", "EpochResult"]


class GateState(Wire):
    """State record: where the curriculum of one (run, configuration) stands."""

    next_epoch: int
    curriculum: CurriculumState


@dataclass(frozen=True, slots=True)
class EpochResult:
    """One epoch of a curriculum.

    Attributes:
        number: of the window within (run, configuration), from 0.
        selection: what trains.
        curriculum: after this epoch, as batches carry it.
        state_digest: of the strategy's own state; None where ``curriculum`` is all of it.
    """

    number: int
    selection: Selection
    curriculum: CurriculumState
    state_digest: str | None


class Curricula:
    """The curricula by (run, configuration digest).

    State keys: ``epoch/run/digest`` holds a :class:`GateState`; ``strategy/run/digest`` the state of a
    strategy other than percentile, whose state is in the former.
    """

    def __init__(self) -> None:
        self._standing: dict[tuple[str, str], GateState] = {}
        self._states: dict[tuple[str, str], State] = {}

    def restore_epoch(self, run_id: str, config_digest: str, value: bytes) -> None:
        """Take back the record of ``epoch/run/digest``."""
        self._standing[run_id, config_digest] = GateState.of_service(value)

    def restore_strategy(self, run_id: str, config_digest: str, value: bytes) -> None:
        """Take back the record of ``strategy/run/digest``."""
        self._states[run_id, config_digest] = json.loads(value)

    def standing(self, run_id: str, config_digest: str, config: CurriculumSection) -> CurriculumState:
        """Return where a curriculum stands, as batches carry it."""
        known = self._standing.get((run_id, config_digest))
        return _on_wire(config, initial_state(config), [], 0) if known is None else known.curriculum

    def run(
        self, config: RunConfig, config_digest: str, groups: Sequence[Arrival], effects: Effects
    ) -> EpochResult:
        """Run one epoch over a window's groups, in order of arrival.

        Raises:
            NotInstalled: when the strategy is not installed here.
            StrategyFailed: when it breaks its contract.
        """
        section, run_id = config.curriculum_learning, config.run_id
        known = self._standing.get((run_id, config_digest))
        number = 0 if known is None else known.next_epoch
        epoch = Epoch(
            number=number,
            rewards=[group.rewards for group in groups],
            sizes=[group.size for group in groups],
            rng=subsampling(run_id, config_digest, number, config.batching.seed),
        )
        selection = run_epoch(epoch, self._state(run_id, config_digest, section), section)
        curriculum = _on_wire(section, selection.state, selection.groups, len(groups))
        after = GateState(next_epoch=number + 1, curriculum=curriculum)
        self._standing[run_id, config_digest] = after
        effects.put(encode_key("epoch", run_id, config_digest), after.to_json())
        if isinstance(section, CurriculumLearningConfig):
            return EpochResult(number, selection, curriculum, None)
        self._states[run_id, config_digest] = selection.state
        kept = encode_state(selection.state, section.type)
        effects.put(encode_key("strategy", run_id, config_digest), kept)
        return EpochResult(number, selection, curriculum, state_digest(selection.state, section.type))

    def _state(self, run_id: str, config_digest: str, section: CurriculumSection) -> State:
        if not isinstance(section, CurriculumLearningConfig):
            return self._states.get((run_id, config_digest), {})
        return self.standing(run_id, config_digest, section).model_dump()


def _on_wire(config: CurriculumSection, state: State, selected: Sequence[int], total: int) -> CurriculumState:
    """Return a state in the reference's fields: percentile's own, or what any selection amounts to."""
    if isinstance(config, CurriculumLearningConfig):
        return CurriculumState.model_validate(state)
    share = len(selected) / total if selected else 1.0
    return CurriculumState(current_percentile=share, total_groups=total, included_groups=sorted(selected))
