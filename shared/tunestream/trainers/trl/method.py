"""What it takes to train an objective."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from datasets import Dataset
from transformers import Trainer

from tunestream.config.run.training import TrainingConfig
from tunestream.events.dataset import DatasetRow
from tunestream.trainers.trl.examples import Examples, Sized
from tunestream.trainers.trl.held_out import HeldOut

__all__ = ["Encoder", "Method", "dataset"]

E = TypeVar("E", bound=Sized)


@dataclass(frozen=True, slots=True)
class Encoder:
    """A run's way from rows to tokens.

    Attributes:
        tokenizer: of the base model.
        limit: tokens of a sequence; None for no limit.
        training: the run's settings.
    """

    tokenizer: Any
    limit: int | None
    training: TrainingConfig


class Method(Protocol, Generic[E]):
    """An objective: its rows, its trainer and how its success is measured."""

    def prepare(self, rows: Iterable[DatasetRow | None], encoder: Encoder) -> Examples[E]:
        """Make examples of rows, None standing for a line that could not be read."""

    def held_out(self, rows: Sequence[DatasetRow | None], encoder: Encoder) -> list[HeldOut]:
        """Make measures of held-out rows, none where none is usable."""

    def trainer(self, examples: Sequence[E], **options: Any) -> Trainer:
        """Make the trainer; the options are those of every trainer."""


def dataset(rows: Sequence[Any]) -> Dataset:
    """Return named tuples as a dataset."""
    return Dataset.from_list([row._asdict() for row in rows])
