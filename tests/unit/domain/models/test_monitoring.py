"""Automatic rollback: which version is compared with which, and what becomes of the worse one."""

from __future__ import annotations

import random
from functools import reduce

import pytest

from tests.helpers.versions import NOW, version
from tunestream.config.run.evaluation import LiveConfig
from tunestream.domain.effects import Effects
from tunestream.domain.jobs.commands import obey
from tunestream.domain.jobs.ledger import JobLedger
from tunestream.domain.models.live import combine
from tunestream.domain.models.monitoring import observe
from tunestream.events.live import LiveRecord, LiveScores, ScoreSummary
from tunestream.events.models import CurrentModel, Evaluation, ModelStatus, ModelVersion
from tunestream.events.training import ControlCommand, ControlResult

WATCH = LiveConfig(margin=0.1, min_turns=20, max_turns=200)


class Owner:
    """A ledger that is restored from its records before each step, as after a crash."""

    def __init__(self) -> None:
        self.records: dict[str, ModelVersion | CurrentModel | LiveRecord] = {}
        for name in "abcd":
            self.records[name] = version(name).model_copy(update={"status": ModelStatus.CANDIDATE})
        self.rng = random.Random(0)
        self.counts: dict[str, int] = {}
        self.written = 0

    def ledger(self) -> JobLedger:
        ledger = JobLedger()
        for record in self.records.values():
            if isinstance(record, LiveRecord):
                ledger.restore_live(record)
            else:
                ledger.restore_models([record])
        return ledger

    def keep(self, effects: Effects) -> None:
        for output in effects.outbound:
            body = output.body
            if isinstance(body, ModelVersion | CurrentModel | LiveRecord):
                self.records[output.key[1]] = body
            self.written += isinstance(body, LiveRecord)
        self.counts.update(effects.counts)

    def command(self, action: str, name: str | None = None, **fields: object) -> ControlResult:
        body = {"run_id": "run", "command_id": "c", "action": action, "version": name}
        effects = Effects()
        answer = obey(self.ledger(), ControlCommand.model_validate(body | fields), now=NOW, effects=effects)
        self.keep(effects)
        return answer

    def promoted(self, *names: str) -> None:
        for name in names:
            assert self.command("promote", name).accepted

    def scored(
        self, mean: float, name: str, *, turns: int = 40, config: LiveConfig | None = WATCH
    ) -> str | None:
        draws = [ScoreSummary(turns=1, mean=self.rng.gauss(mean, 0.1), squares=0.0) for _ in range(turns)]
        scores = LiveScores(run_id="run", config_digest="d", versions={name: reduce(combine, draws)})
        effects = Effects()
        reason = observe(self.ledger(), scores, config, now=NOW, effects=effects)
        self.keep(effects)
        return reason

    @property
    def pointer(self) -> CurrentModel:
        found = self.records["current"]
        assert isinstance(found, CurrentModel)
        return found

    def version(self, name: str) -> ModelVersion:
        found = self.records[name]
        assert isinstance(found, ModelVersion)
        return found


@pytest.fixture
def owner() -> Owner:
    """An owner whose version a scored 0.8, then b was promoted."""
    owner = Owner()
    owner.promoted("a")
    assert owner.scored(0.8, "a") is None
    owner.promoted("b")
    return owner


def test_a_version_that_scores_worse_is_rolled_back(owner: Owner) -> None:
    reason = owner.scored(0.4, "b")
    assert reason is not None
    assert "40 turns" in reason
    pointer = owner.pointer
    assert (pointer.version, pointer.previous, pointer.generation, pointer.cause) == (
        "a",
        "b",
        3,
        "live_scores",
    )
    assert owner.version("b").status is ModelStatus.RETIRED
    assert owner.version("b").rolled_back == reason
    assert (owner.version("a").status, owner.version("a").rolled_back) == (ModelStatus.PROMOTED, None)
    assert owner.counts["rolled_back_automatically"] == 1


def test_within_the_margin_nothing_happens(owner: Owner) -> None:
    for _ in range(8):
        assert owner.scored(0.72, "b") is None
    assert owner.pointer.version == "b"


def test_few_turns_decide_nothing(owner: Owner) -> None:
    assert owner.scored(0.0, "b", turns=19) is None
    assert owner.scored(0.0, "b", turns=1) is not None


def test_nothing_happens_unless_the_run_watches(owner: Owner) -> None:
    before = owner.written
    assert owner.scored(0.0, "b", config=None) is None
    assert owner.written == before


def test_scores_of_other_versions_change_nothing(owner: Owner) -> None:
    assert owner.scored(0.8, "b", turns=1) is None
    before = owner.written
    assert owner.scored(0.0, "nobody knows") is None
    assert owner.scored(0.0, "c") is None
    assert owner.written == before


def test_what_a_rollback_made_current_is_not_rolled_back_by_itself(owner: Owner) -> None:
    assert owner.scored(0.4, "b") is not None
    assert owner.scored(-1.0, "a") is None
    assert owner.pointer.version == "a"
    other = Owner()
    other.promoted("a")
    other.scored(0.4, "a")
    other.promoted("b")
    other.scored(0.8, "b")
    assert other.command("rollback").accepted
    assert other.scored(-1.0, "a") is None, "somebody wanted it"


def test_a_version_that_somebody_rolled_back_to_is_not_watched(owner: Owner) -> None:
    owner.scored(0.8, "b", turns=5)
    owner.promoted("c")
    owner.scored(0.8, "c", turns=5)
    assert owner.command("rollback").accepted
    assert owner.scored(-1.0, "b", turns=100) is None, "though a is known to have been better"
    assert owner.pointer.version == "b"


def test_an_earlier_version_that_is_promoted_again_is_watched(owner: Owner) -> None:
    assert owner.scored(0.8, "b") is None
    owner.promoted("a")
    assert owner.scored(0.0, "a", turns=19) is None, "it begins anew"
    assert owner.scored(0.0, "a", turns=1) is not None
    assert owner.pointer.version == "b"


def test_a_version_that_was_rolled_back_is_promoted_by_force_only(owner: Owner) -> None:
    assert owner.scored(0.4, "b") is not None
    rejected = Evaluation(items=40, difference=-0.5, low=-0.6, high=-0.4, verdict="rejected")
    owner.records["b"] = owner.version("b").model_copy(update={"evaluation": rejected})
    for action, name in (("rollback", None), ("rollback", "b"), ("promote", "b")):
        answer = owner.command(action, name)
        assert not answer.accepted, "a rollback that comes a moment later must not bring it back"
        assert "rolled back automatically" in answer.reason
    assert owner.command("promote", "b", force=True).accepted
    assert owner.version("b").rolled_back is None
    assert owner.scored(0.8, "b") is None, "its former scores are forgotten"
    assert owner.scored(0.0, "b", turns=100) is not None, "and it is watched again"
    assert owner.pointer.version == "a"


def test_a_version_is_compared_with_the_last_that_had_enough_turns(owner: Owner) -> None:
    owner.scored(0.4, "b", turns=5)
    owner.promoted("c")
    reason = owner.scored(0.4, "c")
    assert reason is not None
    assert "version a" in reason
    assert owner.pointer.version == "a", "b never proved itself"


def test_a_version_with_enough_turns_is_the_next_ones_measure(owner: Owner) -> None:
    assert owner.scored(0.74, "b") is None
    owner.promoted("c")
    assert owner.scored(0.68, "c") is None, "not worse than b by the margin"
    live = owner.records["live"]
    assert isinstance(live, LiveRecord)
    assert [tenure.version for tenure in live.tenures] == ["b", "c"]


def test_a_version_that_proved_itself_is_not_watched_any_more(owner: Owner) -> None:
    for _ in range(6):
        assert owner.scored(0.8, "b") is None
    assert owner.scored(-5.0, "b", turns=100) is None, "the world may have changed; its predecessor is gone"


def test_the_first_version_has_nothing_to_go_back_to() -> None:
    owner = Owner()
    owner.promoted("a")
    assert owner.scored(-5.0, "a", turns=100) is None
    assert owner.scored(-5.0, "a", turns=100) is None


def test_scores_before_the_first_version_are_nobodys() -> None:
    owner = Owner()
    assert owner.scored(1.0, "base") is None
    assert owner.written == 0


def test_the_record_stays_small() -> None:
    owner = Owner()
    for _ in range(30):
        for name in "abcd":
            owner.promoted(name)
            for _ in range(4):
                owner.scored(0.8, name, turns=7)
    live = owner.records["live"]
    assert isinstance(live, LiveRecord)
    assert len(live.tenures) <= 2
    for _ in range(400):
        owner.scored(0.8, "d", turns=1)
    live = owner.records["live"]
    assert isinstance(live, LiveRecord)
    assert len(live.tenures[-1].summaries) <= 12
    assert 200 <= sum(one.turns for one in live.tenures[-1].summaries) < 240
