"""What agents' turns scored under the versions that served them."""

from __future__ import annotations

from pydantic import Field

from tunestream.events.base import FiniteFloat, Identifier, Sparse, Wire
from tunestream.events.registry import event_type

__all__ = ["ExampleSums", "LiveRecord", "LiveScores", "LiveTenure", "ScoreSummary"]


class ExampleSums(Wire):
    """Sums over the examples of one policy version, from which an error clustered by example follows.

    With n the turns of an example that the version answered, and s the sum of these turns' mean scores: the
    summary's turns are the sum of n, its mean m is the sum of s over them, and the sum of (s - m * n)**2 is
    ``scores_squared - 2 * m * products + m**2 * turns_squared``. An example whose turns lie in two summaries,
    or more than ten thousand examples apart, counts as two. The sums of two summaries are added.
    """

    examples: int = Field(ge=1)
    turns_squared: FiniteFloat = Field(ge=0.0, description="sum of n * n")
    scores_squared: FiniteFloat = Field(ge=0.0, description="sum of s * s")
    products: FiniteFloat = Field(description="sum of n * s")


class ScoreSummary(Sparse):
    """Turns of one policy version; a turn counts with the mean of its candidates' scores.

    ``by_example`` is there from format 3 on.
    """

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
