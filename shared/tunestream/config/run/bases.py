"""What the NeMo Agent Toolkit's base configurations have in common, under its names.

Ours extend them: a run's trajectory builder the first, a run's trainer, which is the toolkit's trainer and
trainer adapter in one section, the other two. The toolkit's `reward` is a note of the reader of its files.
"""

from __future__ import annotations

from typing import TypeVar

from pydantic import Field

from tunestream.config.run.section import Section

__all__ = [
    "TrainerAdapterConfig",
    "TrainerAdapterConfigT",
    "TrainerConfig",
    "TrainerConfigT",
    "TrajectoryBuilderConfig",
    "TrajectoryBuilderConfigT",
]


class _Component(Section):
    """A component of a run, chosen by its ``_type``."""

    type: str = Field(alias="_type")


class TrajectoryBuilderConfig(_Component):
    """How events become trajectories."""


class TrainerConfig(_Component):
    """When and on what a model is trained."""


class TrainerAdapterConfig(_Component):
    """How a backend trains."""


TrajectoryBuilderConfigT = TypeVar("TrajectoryBuilderConfigT", bound=TrajectoryBuilderConfig)
TrainerConfigT = TypeVar("TrainerConfigT", bound=TrainerConfig)
TrainerAdapterConfigT = TypeVar("TrainerAdapterConfigT", bound=TrainerAdapterConfig)
