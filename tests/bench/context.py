"""What every benchmark is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

__all__ = ["Context"]

T = TypeVar("T")


@dataclass(frozen=True)
class Context:
    """The broker, a folder of its own, and how thorough to be.

    Attributes:
        servers: of a real broker; empty for benchmarks that need none.
        folder: for whatever is written.
        quick: a fifth of the records and fewer rounds: to see that it runs, not to be quoted.
        quix: the interpreter of an environment with Quix Streams in it, None to leave it out.
        kafka_streams: a folder with the jars of Kafka Streams and Jackson, None to leave it out.
        profiles: where to write what services spend their CPU on, None to leave that out.
        long: also what takes half an hour.
    """

    servers: str
    folder: Path
    quick: bool
    quix: Path | None = None
    kafka_streams: Path | None = None
    profiles: Path | None = None
    long: bool = False

    @property
    def rounds(self) -> int:
        return 2 if self.quick else 5

    def sized(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    def alternating(self, contenders: list[T], number: int) -> list[T]:
        """Give the contenders in turn, each one first every other round."""
        return contenders if number % 2 == 0 else contenders[::-1]
