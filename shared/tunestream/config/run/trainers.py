"""Who trains: the section that every backend's configuration extends, and how a run's one is read.

A backend's own section stands in its folder or its distribution and is found by the entry point of its
``_type`` (:mod:`tunestream.config.run.plugins`).
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import (
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    WrapValidator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from tunestream.config.run.bases import TrainerAdapterConfig, TrainerConfig
from tunestream.config.run.plugins import NotInstalled, installed_trainers, load_trainer, section_in
from tunestream.config.run.section import kind_of
from tunestream.events.training import Objective

__all__ = [
    "DEFAULT_TRAINER",
    "OpaqueTrainer",
    "Trainer",
    "TrainerReading",
    "TrainerSection",
    "resolved",
    "trainer_section",
    "trainer_sections",
]

DEFAULT_TRAINER: Final = "trl"
"""The ``_type`` of a trainer section that gives none."""

TrainerReading = Literal["opaque", "installed"]
"""How a run's trainer section is read, where it may be wrong: see :meth:`RunConfig.from_record`."""


class TrainerSection(TrainerConfig, TrainerAdapterConfig):
    """What every trainer has.

    A custom backend subclasses it, with a literal ``type`` whose default is its name.
    """

    objective: Objective | None = None
    """By default `dpo` from pairs and `grpo` from episodes; `sft` takes both, `kto` pairs."""
    max_policy_lag: int | None = Field(default=None, ge=0)
    """Versions by which a batch may be older than the model; older ones are cancelled as `stale`."""
    max_queued: int | None = Field(default=None, ge=1)
    """Waiting jobs of a run; more cancel the oldest."""

    @property
    def objectives(self) -> frozenset[Objective]:
        """What this trainer optimises, as it is set."""
        return frozenset(Objective)

    @property
    def starts_from(self) -> str:
        """The base model's name in versions and model cards."""
        return self.type

    def without_effect(self, objective: Objective) -> dict[tuple[str, ...], str]:
        """Return the sections in this one that do nothing in a run of this objective: path → why."""
        del objective
        return {}


class OpaqueTrainer(TrainerSection):
    """The section of any trainer, kept as it was written: its common keys are read, the others are kept."""

    model_config = ConfigDict(extra="allow")


def trainer_section(kind: str) -> type[TrainerSection]:
    """Return the section of the backend of a ``_type``.

    Raises:
        NotInstalled: when there is none, or its description has no section.
    """
    return section_in(load_trainer(kind), kind, TrainerSection)


def trainer_sections() -> dict[str, type[TrainerSection]]:
    """Return the sections of all backends that can be loaded here, by their ``_type``."""
    found = {}
    for kind in installed_trainers():
        try:
            found[kind] = trainer_section(kind)
        except NotInstalled:
            continue
    return found


def resolved(section: TrainerSection) -> TrainerSection:
    """Return a section as its backend's: an opaque one is read again, another one is returned as it is.

    Raises:
        NotInstalled: when its backend is not installed here.
        pydantic.ValidationError: when another version of the backend wrote what this one cannot read.
    """
    if not isinstance(section, OpaqueTrainer):
        return section
    return trainer_section(section.type).model_validate(section.model_dump(mode="json"))


def _read(value: object, handler: object, info: ValidationInfo) -> TrainerSection:
    """Read a section as its backend's, or as an opaque one where the context's ``trainer`` allows it."""
    del handler
    if isinstance(value, TrainerSection):
        return value
    reading: TrainerReading | None = (info.context or {}).get("trainer")
    if reading is not None:
        return _kept(value) if reading == "opaque" else _readable(value)
    try:
        return trainer_section(str(kind_of(value, default=DEFAULT_TRAINER))).model_validate(value)
    except NotInstalled as missing:
        kinds = sorted(installed_trainers(), key=lambda kind: (kind != DEFAULT_TRAINER, kind))
        raise ValueError(f"{missing}; choose one of {', '.join(map(repr, kinds))}") from missing


def _kept(value: object) -> OpaqueTrainer:
    return OpaqueTrainer.model_validate(value)


def _readable(value: object) -> TrainerSection:
    """Read a section as its backend's where that can be; what it means is asked when it is trained."""
    opaque = _kept(value)
    try:
        return resolved(opaque)
    except (NotInstalled, ValidationError):
        return opaque


class _AnySection:
    """The JSON Schema of a trainer section: one of the installed ones, or one of a ``_type`` unknown here."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        del schema
        sections = trainer_sections()
        other = {
            "type": "object",
            "description": "Training by a backend that is not installed here.",
            "properties": {"_type": {"type": "string", "not": {"enum": list(sections)}}},
            "required": ["_type"],
        }
        return {"oneOf": [*(handler(one.__pydantic_core_schema__) for one in sections.values()), other]}


Trainer = Annotated[SerializeAsAny[TrainerSection], WrapValidator(_read), _AnySection()]
