"""Tables of the services' settings and metrics."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any, Final, Literal, get_args, get_origin

from prometheus_client.metrics import MetricWrapperBase
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

import tunestream_services
from tools.wire.readme import table
from tunestream.config.settings import (
    KafkaSettings,
    LogSettings,
    PublisherSettings,
    ServiceSettings,
    StoreSettings,
    SupervisorSettings,
)
from tunestream.serving import metrics as serving_metrics
from tunestream.streams.watch import metrics as stream_metrics
from tunestream.trainers.art.settings import ARTSettings
from tunestream.trainers.worker.settings import WorkerSettings
from tunestream_services.trainer import metrics as trainer_metrics
from tunestream_services.ttc_collector import metrics as collector_metrics

__all__ = ["METRICS", "SETTINGS", "service_settings", "service_tables", "variable_of"]

METRICS: Final = (stream_metrics, collector_metrics, trainer_metrics, serving_metrics)
SETTINGS: Final = (
    KafkaSettings,
    StoreSettings,
    LogSettings,
    ServiceSettings,
    SupervisorSettings,
    PublisherSettings,
    WorkerSettings,
    ARTSettings,
)


def service_settings() -> dict[str, type[BaseSettings]]:
    """Return the settings class of each service's own, by the service's name."""
    found: dict[str, type[BaseSettings]] = {}
    for module in pkgutil.iter_modules(tunestream_services.__path__):
        holder = importlib.import_module(f"tunestream_services.{module.name}.settings")
        found[module.name] = next(getattr(holder, name) for name in holder.__all__)
    return found


def service_tables() -> dict[str, str]:
    """Return the tables by the name of their block."""
    shared = {f"settings-{_slug(cls)}": _settings_table([cls]) for cls in SETTINGS}
    own = _settings_table(list(service_settings().values()))
    return {**shared, "settings-services": own, "metrics": _metrics_table()}


def variable_of(settings: type[BaseSettings], name: str) -> str:
    """Return the environment variable that a field is read from."""
    return str(settings.model_fields[name].validation_alias)


def _slug(settings: type[BaseSettings]) -> str:
    return settings.__name__.removesuffix("Settings").lower()


def _settings_table(classes: list[type[BaseSettings]]) -> str:
    rows = [
        (f"`{variable_of(cls, name)}`", _default(field), _values(field), field.description or "")
        for cls in classes
        for name, field in cls.model_fields.items()
    ]
    return table(("variable", "default", "takes", "what it does"), rows)


def _default(field: FieldInfo) -> str:
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    return "" if field.default in {None, ""} else f"`{field.default}`"


def _values(field: FieldInfo) -> str:
    annotation = field.annotation
    choices = [kind for kind in (annotation, *get_args(annotation)) if get_origin(kind) is Literal]
    if choices:
        return ", ".join(f"`{value}`" for value in get_args(choices[0]))
    kinds = [kind for kind in get_args(annotation) or (annotation,) if kind is not type(None)]
    return {"SecretStr": "a secret", "Path": "a file", "str": "text", "bool": "`true`, `false`"}.get(
        kinds[0].__name__, " ".join(["a number", *_bounds(field)])
    )


def _bounds(field: FieldInfo) -> Iterator[str]:
    names = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    for bound in field.metadata:
        for name, sign in names.items():
            value: Any = getattr(bound, name, None)
            if value is not None:
                yield f"{sign} {value:g}"


def _metrics_table() -> str:
    found = (getattr(module, name) for module in METRICS for name in module.__all__)
    rows = [_metric(metric) for metric in found if isinstance(metric, MetricWrapperBase)]
    return table(("metric", "kind", "labels", "what it shows"), rows)


def _metric(metric: MetricWrapperBase) -> tuple[str, ...]:
    family = next(iter(metric.collect()))
    name = f"{family.name}_total" if family.type == "counter" else family.name
    return f"`{name}`", family.type, ", ".join(metric._labelnames), family.documentation  # noqa: SLF001
