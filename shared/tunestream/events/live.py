"""What agents' turns scored under the versions that served them."""

from __future__ import annotations

from pydantic import Field

from tunestream.events.base import FiniteFloat, Identifier, Sparse, Wire
from tunestream.events.registry import event_type

__all__ = ["ExampleSums", "LiveRecord", "LiveScores", "LiveTenure", "ScoreSummary"]


class ExampleSums(Wire):
    """Sums over the examples of one policy version, from which a ratio's error clustered by example follows.

    With n the turns of an example and s the sum of its turns' mean scores.
    """

    examples: int = Field(ge=1)
    turns_squared: FiniteFloat = Field(ge=0.0, description="sum of n * n")
    scores_squared: FiniteFloat = Field(ge=0.0, description="sum of s * s")
    products: FiniteFloat = Field(description="sum of n * s")


class ScoreSummary(Sparse):
    """Turns of one policy version; a turn counts with the mean of its candidates' scores."""

    turns: int = Field(ge=1)
    mean: FiniteFloat
    squares: FiniteFloat = Field(ge=0.0, description="sum of the squared deviations from the mean")
    by_example: ExampleSums | None = None


@event_type("tunestream.live_scores.v1")
class LiveScores(Wire):
    """What the turns of a stretch of stream time scored, by the policy version that answered."""

    run_id: Identifier
    config_digest: str
    versions: dict[str, ScoreSummary]


class LiveTenure(Wire):
    """The turns of a version since it became the run's current one, in the order of their summaries."""

    version: Identifier
    summaries: list[ScoreSummary] = Field(default_factory=list)


@event_type("tunestream.live_record.v1")
class LiveRecord(Wire):
    """What the owner of a run knows of live scores: the versions as they became current, the last is."""

    run_id: Identifier
    generation: int = Field(ge=1, description="of the pointer that the last tenure belongs to")
    tenures: list[LiveTenure]
