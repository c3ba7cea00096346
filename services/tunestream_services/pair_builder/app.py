"""The application of ``tunestream service run pair-builder``."""

from __future__ import annotations

from tunestream.artifacts import ArtifactStore
from tunestream.config.settings import KafkaSettings, ServiceSettings, StoreSettings
from tunestream.domain.scoring.rules import ScoringRules
from tunestream.domain.turns.core import PairBuilder
from tunestream.domain.turns.group_rules import GroupRules
from tunestream.streams.runs import RunDirectory
from tunestream.streams.runtime.service import build_app
from tunestream.streams.tasks.handler import Handler
from tunestream.streams.tasks.plan import Plan
from tunestream.topics import INPUTS, changelog_of
from tunestream_services.pair_builder.handler import PairBuilderHandler
from tunestream_services.pair_builder.settings import PairBuilderSettings

__all__ = ["app"]

SERVICE = "pair-builder"
_COUNTED = (
    "answer_dropped",
    "closed_complete",
    "closed_example_end",
    "closed_timeout",
    "closed_turn_end",
    "duplicate",
    "marker_ignored",
    "score_dropped",
    "score_late",
    "score_metadata_dropped",
    "score_timeout",
    "score_without_candidate",
    "scores_asked",
    "unscored",
    "waiting_full",
)
kafka = KafkaSettings()
settings = PairBuilderSettings()
runs = RunDirectory(kafka)
store = ArtifactStore(StoreSettings().artifacts)


def _rules(run_id: str, config_digest: str) -> GroupRules:
    config = runs.config(run_id, config_digest)
    scoring = ScoringRules.of(config)
    return GroupRules.of(config.trajectory_builder, config.batching.window_pairs, scoring)


def new_handler(partition: int) -> Handler:
    """Return the handler of one partition, without state."""
    builder = PairBuilder(
        _rules,
        partition=partition,
        number=lambda: runs.format,
        has_service=lambda: runs.reward_service,
    )
    return PairBuilderHandler(builder, runs, store, settings.largest_group_bytes)


app = build_app(
    Plan(
        service=SERVICE,
        inputs=INPUTS[SERVICE],
        changelog=changelog_of(SERVICE),
        new_handler=new_handler,
        kafka=kafka,
        format=lambda: runs.format,
        retired=("TUNESTREAM_PAIR_BUILDER_GRACE_SECONDS",),
        keep=lambda content: store.put_bytes(content).uri,
        counted=_COUNTED,
    ),
    ServiceSettings(),
    resources=[runs],
)
