"""What a model server should answer with, and the steps that lead there; pure.

A version is served under the immutable name ``target_model@version`` from a path of its own: servers key
their prefix caches by name and path, so other weights never get a name and path that were served before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tunestream.config.run.run import RunConfig
from tunestream.config.run.serving import ServingConfig
from tunestream.events.models import CurrentModel, ModelStatus, ModelVersion

__all__ = ["Desired", "Load", "Loaded", "Target", "Unload", "plan", "served_name", "serves", "targets"]

Loaded = Mapping[str, str | None]
"""What a server lists: name → path; None where it does not return the path."""


@dataclass(frozen=True, slots=True)
class Target:
    """What one server of a run is for.

    Attributes:
        model: the name before the ``@``.
        current: the promoted version.
        previous: versions that stay loaded beside it, the latest first.
        owned: the served names of all versions of the run.
    """

    run_id: str
    model: str
    server: ServingConfig
    current: ModelVersion
    previous: tuple[ModelVersion, ...]
    owned: frozenset[str]

    @property
    def name(self) -> str:
        """The name under which the current version is asked."""
        return served_name(self.model, self.current.version)


@dataclass(frozen=True, slots=True)
class Desired:
    """What a server should list.

    Attributes:
        current: names of the current version: its own, and the stable one where that is wanted.
        names: all names, the current ones first, with their paths; None accepts any path.
        owned: names that are unloaded when they are not wanted; others are left alone.
    """

    current: tuple[str, ...]
    names: Mapping[str, str | None]
    owned: frozenset[str]


@dataclass(frozen=True, slots=True)
class Load:
    """Load ``path`` as ``name``; ``replace`` where the name has another path now."""

    name: str
    path: str
    replace: bool = False


@dataclass(frozen=True, slots=True)
class Unload:
    """Unload ``name``."""

    name: str


def served_name(model: str, version: str) -> str:
    """Return the name under which a version of a model is served."""
    return f"{model}@{version}"


def targets(
    config: RunConfig, pointer: CurrentModel, versions: Mapping[str, ModelVersion]
) -> Iterator[Target]:
    """Yield what each server of a run is for; nothing when the current version is not known yet."""
    current = versions.get(pointer.version)
    if current is None:
        return
    ranked = _ranked(pointer, versions.values())
    owned = frozenset(served_name(config.served_name, version) for version in versions)
    for server in config.serving:
        previous = tuple(ranked[: server.keep_previous])
        yield Target(config.run_id, config.served_name, server, current, previous, owned)


def _ranked(pointer: CurrentModel, versions: Iterable[ModelVersion]) -> list[ModelVersion]:
    """Return the versions that were current before: first the one before this, then the newest."""
    retired = [version for version in versions if version.status is ModelStatus.RETIRED]
    retired.sort(key=lambda version: (version.number, version.created, version.version), reverse=True)
    retired.sort(key=lambda version: version.version != pointer.previous)
    return [version for version in retired if version.version != pointer.version]


def plan(desired: Desired, loaded: Loaded, *, in_place: bool = True) -> list[Load | Unload]:
    """Return the steps after which the server serves what is desired.

    Loading comes before unloading, the current version before those that were: requests find one or the
    other at any time.

    Args:
        desired: what the server should list.
        loaded: what it lists.
        in_place: the server can load other weights under a name that it has; otherwise the name is
            unloaded first.
    """
    steps: list[Load | Unload] = []
    for name, path in desired.names.items():
        if path is None or serves(desired, loaded, [name]):
            continue
        known = name in loaded
        if known and not in_place:
            steps.append(Unload(name))
        steps.append(Load(name, path, replace=known and in_place))
    steps += [Unload(name) for name in loaded if name in desired.owned and name not in desired.names]
    return steps


def serves(desired: Desired, loaded: Loaded, names: Sequence[str] | None = None) -> bool:
    """Return whether a server lists names with their paths; by default those of the current version."""
    return all(_agrees(desired.names[name], loaded, name) for name in names or desired.current)


def _agrees(path: str | None, loaded: Loaded, name: str) -> bool:
    return name in loaded and (path is None or loaded[name] in {None, path})
