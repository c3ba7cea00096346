"""What stands between a finished version and its promotion, and what watches it afterwards."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, Tag, model_validator

from tunestream.config.run.durations import Duration
from tunestream.config.run.section import EnvName, FreeForm, Section, kind_or

__all__ = ["EvaluationConfig", "Evaluator", "HTTPEvaluatorConfig", "LiveConfig", "PythonEvaluatorConfig"]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def _check_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("use 1 to 64 letters, digits, '.', '_' and '-', a letter or digit first")
    return value


def _check_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("write an address such as http://localhost:9000/score")
    if "@" in parts.netloc:
        raise ValueError("holds a user or password; name an environment variable in token_env instead")
    return value


EvaluatorName = Annotated[str, AfterValidator(_check_name)]


class _EvaluatorConfig(Section):
    name: EvaluatorName
    """Names the evaluator in verdicts."""
    min_margin: float = 0.0
    """A version is rejected when the interval of the evaluator's difference lies below."""
    timeout: Duration = timedelta(minutes=5)
    """For one version's items; over HTTP, for one attempt."""
    on_error: Literal["hold", "ignore"] = "hold"
    """When it gives no scores: `hold` keeps the version a candidate, `ignore` goes by the others."""
    options: FreeForm = {}
    """Passed to the evaluator as they are."""


class PythonEvaluatorConfig(_EvaluatorConfig):
    """A function that scores versions in a process of its own."""

    type: Literal["python"] = Field(default="python", alias="_type")
    entry_point: str = Field(min_length=1)
    """Its name in the group `tunestream.evaluators` of a package that the trainer has installed."""


class HTTPEvaluatorConfig(_EvaluatorConfig):
    """An endpoint that scores versions."""

    type: Literal["http"] = Field(default="http", alias="_type")
    url: Annotated[str, AfterValidator(_check_url)]
    """Takes a POST of JSON."""
    token_env: EnvName | None = None
    """Environment variable of the trainer with the bearer token."""
    attempts: int = Field(default=3, ge=1, le=10)
    """When it cannot be reached, takes too long, or answers with 429 or 5xx."""


Evaluator = Annotated[
    Annotated[PythonEvaluatorConfig, Tag("python")] | Annotated[HTTPEvaluatorConfig, Tag("http")],
    kind_or("python"),
]


class LiveConfig(Section):
    """Rolls back a promoted version whose agents' turns score worse than those of the version before."""

    margin: float = Field(default=0.0, ge=0.0)
    """How much worse a turn's mean score may be; the interval of the difference must lie below."""
    min_turns: int = Field(default=50, ge=10)
    """Turns of each of the two versions before they are compared."""
    max_turns: int = Field(default=1000, ge=10)
    """Turns after which a version has proved itself; the latest as many of the version before count."""
    every: Duration = timedelta(seconds=10)
    """Stream time between two looks."""

    @model_validator(mode="after")
    def _turns_fit(self) -> Self:
        if self.max_turns < self.min_turns:
            raise ValueError("max_turns is below min_turns: no version would ever be compared")
        return self


class EvaluationConfig(Section):
    """The gate between a finished version and its promotion."""

    min_margin: float = 0.0
    """A version is rejected when its interval against the current one lies below."""
    min_items: int = Field(default=30, ge=1)
    """Held-out rows below which a version is promoted as `unevaluated`."""
    max_items: int = Field(default=1000, ge=1)
    """The latest held-out rows that are used."""
    evaluators: list[Evaluator] = []
    """Custom evaluators, beside the comparison of preferences; each can reject a version."""
    live: LiveConfig | None = None
    """Automatic rollback by live scores; off without it."""

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [evaluator.name for evaluator in self.evaluators]
        if len(names) != len(set(names)):
            raise ValueError("two evaluators have the same name; each needs its own")
        return self
