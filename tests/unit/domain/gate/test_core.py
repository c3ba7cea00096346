"""Windows against a naive model, with restarts from the compacted changelog at any moment."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tunestream.config.run.curriculum import CurriculumLearningConfig
from tunestream.config.run.run import BatchingConfig, RunConfig
from tunestream.domain.effects import Effects
from tunestream.domain.gate.bodies import arrival_of
from tunestream.domain.gate.closed_window import ClosedWindow
from tunestream.domain.gate.core import CurriculumGate
from tunestream.domain.gate.split import is_held_out
from tunestream.events.base import Wire
from tunestream.events.dataset import PreferenceRow
from tunestream.events.live import LiveScores
from tunestream.events.trajectories import CloseReason, DPOItem, MemberScore, Trajectory, TrajectoryGroup
from tunestream.events.ttc import Tick
from tunestream.trainers.trl.config import TRLTrainerConfig

WINDOW, LEAST, WAIT, FLUSH = 6, 3, 1000, 700
PARTITION = 2


def configuration(**changes: Any) -> RunConfig:
    batching = {
        "window_pairs": WINDOW,
        "min_batch_pairs": LEAST,
        "max_wait": timedelta(milliseconds=WAIT),
        "flush_after": timedelta(milliseconds=FLUSH),
        "validation_fraction": 0.0,
    }
    batching |= changes.pop("batching", {})
    model = {"hf_model_ckpt": "models/tiny"}
    trainer = TRLTrainerConfig.model_validate({"_type": "trl", "model": model})
    return RunConfig(run_id="r", trainer=trainer, batching=BatchingConfig(**batching), **changes)


def group(
    name: str,
    pairs: int,
    digest: str = "d",
    scores: tuple[float, float] = (0.0, 1.0),
    prompt: str = "p",
    run: str = "r",
) -> TrajectoryGroup:
    item = DPOItem(prompt=prompt, chosen_response="a", rejected_response="b")
    metadata = {"chosen_score": scores[1], "rejected_score": scores[0], "policy_version": "v"}
    return TrajectoryGroup(
        run_id=run,
        group_id=name,
        example_id="e",
        turn_id="t",
        config_digest=digest,
        kind="preference",
        closed_by=CloseReason.COMPLETE,
        scores=[MemberScore(id=str(at), index=at, score=score) for at, score in enumerate(scores)],
        trajectories=[Trajectory(episode=[item], reward=1.0, metadata=metadata)] * pairs,
    )


class Gate:
    """A gate whose changelog is kept compacted beside it."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.log: dict[bytes, bytes] = {}
        self.counts: dict[str, int] = {}
        self.told: list[Wire] = []
        self.core = self.fresh()

    def fresh(self) -> CurriculumGate:
        return CurriculumGate(
            lambda run, _digest: self.config.model_copy(update={"run_id": run}), partition=PARTITION
        )

    def send(self, event: TrajectoryGroup | Tick, time: int, origin: int | None = None) -> list[ClosedWindow]:
        effects = Effects()
        taken = event if isinstance(event, Tick) else arrival_of(event)
        closed = self.core.handle(taken, time=time, raw=event.to_json(), effects=effects, origin=origin)
        for key, value in effects.changes.items():
            if value is None:
                self.log.pop(key, None)
            else:
                self.log[key] = value
        for name, count in effects.counts.items():
            self.counts[name] = self.counts.get(name, 0) + count
        self.told += [output.body for output in effects.outbound if isinstance(output.body, Wire)]
        return closed

    def restart(self, seed: int = 0) -> None:
        records = list(self.log.items())
        random.Random(seed).shuffle(records)
        self.core = self.fresh()
        for key, value in records:
            self.core.restore(key, value)


def rows(window: ClosedWindow, *, held_out: bool = False) -> list[PreferenceRow]:
    return [
        PreferenceRow.model_validate_json(line.text)
        for line in window.lines({}, window.selected)
        if line.held_out is held_out
    ]


def names(window: ClosedWindow) -> list[str]:
    return list(dict.fromkeys(row.group_id for row in rows(window)))


class Windows(RuleBasedStateMachine):
    """Groups of two runs under two configurations, of this partition's number and others, and ticks."""

    @initialize()
    def start(self) -> None:
        self.gate = Gate(configuration())
        self.now, self.number = 10_000, 0
        self.gate.send(Tick(run_id="*"), self.now)
        self.open: dict[tuple[str, str], list[tuple[int, int, str]]] = {}
        self.epochs: dict[tuple[str, str], int] = {}

    def close(self, key: tuple[str, str], time: int) -> tuple[str, str, int, int, list[str]]:
        epoch = self.epochs.get(key, 0)
        self.epochs[key] = epoch + 1
        return *key, epoch, time, [name for _, _, name in self.open.pop(key)]

    def advance(self, time: int) -> list[tuple[str, str, int, int, list[str]]]:
        due = []
        for key, members in self.open.items():
            deadline = members[-1][0] + FLUSH
            if sum(pairs for _, pairs, _ in members) >= LEAST:
                deadline = min(deadline, members[0][0] + WAIT)
            due.append((deadline, key))
        closed = [self.close(key, at) for at, key in sorted(due) if at <= time and time > self.now]
        self.now = max(self.now, time)
        return closed

    def check(
        self, event: TrajectoryGroup | Tick, time: int, wanted: list[Any], origin: int | None = None
    ) -> None:
        got = [
            (window.run_id, window.config_digest, window.epoch, window.time, names(window))
            for window in self.gate.send(event, time, origin)
        ]
        assert got == wanted

    @rule(
        run=st.sampled_from("rs"),
        digest=st.sampled_from("de"),
        pairs=st.sampled_from([0, 1, 1, 2, 7]),
        step=st.sampled_from([-50, 0, 1, 300, 500, 699, 700]),
        origin=st.sampled_from([None, PARTITION, PARTITION + 1]),
    )
    def group(self, run: str, digest: str, pairs: int, step: int, origin: int | None) -> None:
        self.number += 1
        name, time = f"g{self.number}", self.now + step
        wanted = self.advance(time) if origin in (None, PARTITION) else []
        if pairs:
            members = self.open.setdefault((run, digest), [])
            members.append((self.now, pairs, name))
            total = sum(count for _, count, _ in members)
            if total >= WINDOW or (total >= LEAST and self.now >= members[0][0] + WAIT):
                wanted.append(self.close((run, digest), self.now))
        self.check(group(name, pairs, digest, run=run), time, wanted, origin)

    @rule(step=st.sampled_from([-50, 1, 500, 700, 1000]))
    def tick(self, step: int) -> None:
        time = self.now + step
        self.check(Tick(run_id="*"), time, self.advance(time))

    @rule(seed=st.integers(0, 9))
    def restart(self, seed: int) -> None:
        self.gate.restart(seed)

    @invariant()
    def the_state_holds_the_open_groups(self) -> None:
        groups = sum(len(members) for members in self.open.values())
        assert self.gate.core.open_groups == groups
        assert sum(key.startswith(b"group/") for key in self.gate.log) == groups


TestWindows = Windows.TestCase
TestWindows.settings = settings(max_examples=80, stateful_step_count=40)


def test_each_window_is_an_epoch_of_the_curriculum_even_across_a_restart() -> None:
    curriculum = CurriculumLearningConfig(
        enabled=True, initial_percentile=0.5, increment_percentile=0.5, expansion_interval=2
    )
    gate, chosen = Gate(configuration(curriculum_learning=curriculum)), []
    for epoch in range(3):
        for at in range(WINDOW):
            window = gate.send(group(f"{epoch}.{at}", 1, scores=(0.0, at + 1.0)), 1)
            gate.restart(at)
        chosen.append((names(window[0]), window[0].dropped))
    assert chosen[0] == (["0.5", "0.4", "0.3"], {"percentile": 3})
    assert [len(groups) for groups, _ in chosen] == [3, 6, 6]
    assert gate.core.curriculum("r", "d").last_expansion_epoch == 1


def test_spread_is_over_candidate_scores_and_an_empty_selection_is_an_epoch() -> None:
    gate = Gate(configuration(curriculum_learning=CurriculumLearningConfig(enabled=True)))
    for at in range(WINDOW):
        windows = gate.send(group(f"flat{at}", 1, scores=(0.5, 0.55)), 1)
    assert (windows[0].selected, gate.counts) == ([], {"dropped_low_spread": WINDOW})
    assert windows[0].left_out == {"low_spread": [f"flat{at}" for at in range(WINDOW)]}
    for at in range(WINDOW):
        windows = gate.send(group(f"g{at}", 1), 1)
    assert windows[0].epoch == 1


def test_held_out_prompts_never_train() -> None:
    prompts = [f"prompt {at}" for at in range(200)]
    gate = Gate(configuration(batching={"window_pairs": 200, "validation_fraction": 0.25}))
    for at, prompt in enumerate(prompts):
        windows = gate.send(group(f"g{at}", 1, prompt=prompt), 1)
    held_out = {prompt for prompt in prompts if is_held_out("r", prompt, 0.25)}
    assert 20 < len(held_out) < 80
    assert {row.prompt for row in rows(windows[0], held_out=True)} == held_out
    assert {row.prompt for row in rows(windows[0])} == set(prompts) - held_out


def test_a_larger_fraction_holds_out_the_same_prompts_and_white_space_does_not_matter() -> None:
    small = {at for at in range(500) if is_held_out("r", f"p {at}", 0.1)}
    assert small < {at for at in range(500) if is_held_out("r", f" p\n {at}", 0.3)}


def test_live_scores_count_every_turn_and_need_no_window() -> None:
    patient = {"flush_after": timedelta(minutes=1)}
    gate = Gate(configuration(batching=patient, evaluation={"live": {"every": "1s"}}))
    for at, pairs in enumerate((0, 1, 0)):
        scored = group(f"g{at}", pairs)
        members = [member.model_copy(update={"policy_version": "v"}) for member in scored.scores]
        assert gate.send(scored.model_copy(update={"scores": members}), 100 + at) == []
        gate.restart(at)
    assert gate.send(Tick(run_id="*"), 1_099) == []
    assert gate.told == []
    gate.send(Tick(run_id="*"), 1_100)
    (told,) = gate.told
    assert isinstance(told, LiveScores)
    assert {name: (one.turns, one.mean) for name, one in told.versions.items()} == {"v": (3, 0.5)}
    assert gate.core.open_groups == 1, "the window goes on"


def test_a_window_of_other_partitions_groups_waits_by_this_ones_clock() -> None:
    """Its first group came before this clock began; groups of other partitions move it nowhere."""
    gate = Gate(configuration())
    assert gate.send(group("g0", 1), 90_000, PARTITION + 1) == []
    gate.restart()
    assert gate.send(Tick(run_id="*"), 50_000) == []
    gate.restart()
    assert gate.send(group("g1", 0), 95_000, PARTITION + 1) == []
    assert gate.send(Tick(run_id="*"), 50_000 + FLUSH - 1) == []
    (window,) = gate.send(Tick(run_id="another"), 50_000 + FLUSH)
    assert (names(window), window.time) == (["g0"], 50_000 + FLUSH)


OLD = 1_800_000_000_000


@pytest.mark.parametrize("restarted", [False, True])
def test_the_state_of_an_earlier_release_counts_from_the_first_record(restarted: bool) -> None:
    gate = Gate(configuration())
    gate.log = {
        b"group/r/d/0/%d" % (OLD - 3_600_000): group("g", 1).to_json(),
        b"run/r": b"%d" % (OLD - 3_600_000),
    }
    gate.restart()
    assert gate.send(group("g", 0), OLD - 10, PARTITION + 1) == []
    assert gate.send(Tick(run_id="*"), OLD) == []
    assert b"run/r" not in gate.log
    if restarted:
        gate.restart()
    assert gate.send(Tick(run_id="*"), OLD + FLUSH - 1) == []
    (window,) = gate.send(Tick(run_id="*"), OLD + FLUSH)
    assert (names(window), window.time) == (["g"], OLD + FLUSH)


def test_an_earlier_release_reads_the_clock_as_those_of_two_runs() -> None:
    """It takes one number under any key that begins with run/."""
    gate = Gate(configuration())
    gate.send(Tick(run_id="*"), OLD)
    assert {key: int(value) for key, value in gate.log.items()} == {b"run/*": OLD, b"run/*since": OLD}


def test_a_run_that_waits_for_nothing_leaves_its_curriculum_alone() -> None:
    gate = Gate(configuration())
    for at in range(WINDOW):
        gate.send(group(f"g{at}", 1), OLD + at)
    assert gate.log.keys() == {b"run/*", b"run/*since", b"epoch/r/d", b"recent/r/d/0"}
    assert gate.core._windows == {}
