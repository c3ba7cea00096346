"""Whether a schema still takes everything that a released one took.

Within a major version fields are only added, and only optional ones. The check is that of a reader: each
record that the old schema takes, the new one takes too, and every field that readers could rely on is
still there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

__all__ = ["breaking_changes"]

Schema = Mapping[str, Any]

_LOWER_BOUNDS: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER_BOUNDS: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_FORMS: Final = ("pattern", "format")
_ANYTHING: Final[Schema] = {}


def breaking_changes(old: Schema, new: Schema) -> list[str]:
    """Return what a new schema breaks, one line each, empty when it is compatible.

    Args:
        old: the released JSON Schema.
        new: the one to judge.
    """
    return list(dict.fromkeys(_Comparison(old, new).compare(old, new, "body")))


class _Comparison:
    """Two documents, whose references lead into their own definitions."""

    def __init__(self, old: Schema, new: Schema) -> None:
        self._old, self._new = old, new

    def compare(self, old: Schema, new: Schema, path: str) -> Iterator[str]:
        """Yield what ``new`` no longer takes at ``path``."""
        candidates = _alternatives(new, self._new)
        for alternative in _alternatives(old, self._old):
            fitting = [other for other in candidates if _takes_type(alternative, other)]
            if not fitting:
                yield f"{path}: no longer takes {alternative.get('type', 'everything')}"
                continue
            # What the most similar of them breaks.
            yield from min((list(self._one(alternative, other, path)) for other in fitting), key=len)

    def _one(self, old: Schema, new: Schema, path: str) -> Iterator[str]:
        yield from _values(old, new, path)
        yield from _bounds(old, new, path)
        if "items" in new:
            yield from self.compare(old.get("items", _ANYTHING), new["items"], f"{path}[]")
        yield from self._fields(old, new, path)

    def _fields(self, old: Schema, new: Schema, path: str) -> Iterator[str]:
        fields, kept = old.get("properties", {}), new.get("properties", {})
        for name, field in fields.items():
            if name in kept:
                yield from self.compare(field, kept[name], f"{path}.{name}")
            else:
                yield f"{path}.{name}: was removed"
        was, now = set(old.get("required", ())), set(new.get("required", ()))
        yield from (f"{path}.{name}: became required" for name in sorted(now - was))
        yield from (f"{path}.{name}: may be missing now" for name in sorted(was - now) if name in kept)
        yield from self._others(old, new, path)

    def _others(self, old: Schema, new: Schema, path: str) -> Iterator[str]:
        was, now = old.get("additionalProperties", True), new.get("additionalProperties", True)
        if was is False or now is True:
            return
        if now is False:
            yield f"{path}: no longer takes other fields"
        else:
            yield from self.compare(_ANYTHING if was is True else was, now, f"{path}.*")


def _resolve(schema: Schema, document: Schema) -> Schema:
    while "$ref" in schema:
        found = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = found
    return schema


def _alternatives(schema: Schema, document: Schema) -> list[Schema]:
    schema = _resolve(schema, document)
    found = schema.get("anyOf") or schema.get("oneOf") or [schema]
    return [_resolve(alternative, document) for alternative in found]


def _takes_type(old: Schema, new: Schema) -> bool:
    if "type" not in new:
        return True
    return bool(old.get("type") == new["type"] or (old.get("type"), new["type"]) == ("integer", "number"))


def _values(old: Schema, new: Schema, path: str) -> Iterator[str]:
    was, now = _enumerated(old), _enumerated(new)
    if now is None:
        return
    if was is None:
        yield f"{path}: takes only {', '.join(map(repr, now))} now"
        return
    yield from (f"{path}: no longer takes {value!r}" for value in was if value not in now)


def _enumerated(schema: Schema) -> list[Any] | None:
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _bounds(old: Schema, new: Schema, path: str) -> Iterator[str]:
    for name in _LOWER_BOUNDS:
        if name in new and (name not in old or new[name] > old[name]):
            yield f"{path}: {name} is {new[name]} now"
    for name in _UPPER_BOUNDS:
        if name in new and (name not in old or new[name] < old[name]):
            yield f"{path}: {name} is {new[name]} now"
    for name in _FORMS:
        if name in new and new[name] != old.get(name):
            yield f"{path}: {name} is {new[name]!r} now"
