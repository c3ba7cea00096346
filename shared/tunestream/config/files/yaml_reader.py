"""Reads YAML with the line of each key; an aliased section is read again at each place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from tunestream.config.files.document import Document, Keys
from tunestream.config.files.errors import ConfigError, Problem

__all__ = ["read_document", "read_text"]

_MOST_VALUES: Final = 20_000  # aliases of aliases multiply; no run's file is this large


def read_document(path: Path) -> Document:
    """Read a YAML file.

    Raises:
        ConfigError: when it cannot be read, is not YAML, or is not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([Problem(str(path), "", f"cannot be read: {error.strerror or error}")]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([Problem(str(path), "", "is not UTF-8 text")]) from error
    return read_text(text, name=str(path))


def read_text(text: str, *, name: str) -> Document:
    """Read YAML text; ``name`` stands for it in messages.

    Raises:
        ConfigError: when it is not YAML or not a mapping.
    """
    document = Document(name)
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        data = None if node is None else _Reader(loader, document).value(node, ())
    except yaml.YAMLError as error:
        raise ConfigError([_syntax_problem(name, error)]) from error
    except RecursionError:
        raise ConfigError([Problem(name, "", "is nested too deeply")]) from None
    if not isinstance(data, dict):
        raise ConfigError([Problem(name, "", "must be a mapping of sections, e.g. 'run_id: my-run'")])
    document.data = data
    return document


def _syntax_problem(name: str, error: yaml.YAMLError) -> Problem:
    mark = getattr(error, "problem_mark", None)
    reason = getattr(error, "problem", None) or str(error)
    return Problem(name if mark is None else f"{name}:{mark.line + 1}", "", f"is not valid YAML: {reason}")


class _Loader(yaml.SafeLoader):
    """YAML without dates: what looks like one is text."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class _Reader:
    """Builds values from YAML nodes and notes the line of each key."""

    def __init__(self, loader: _Loader, document: Document) -> None:
        self._loader = loader
        self._document = document
        self._values = 0
        self._flattened: set[int] = set()

    def value(self, node: yaml.Node, path: Keys) -> Any:
        self._values += 1
        if self._values > _MOST_VALUES:
            raise ConfigError([Problem(self._document.name, "", f"has more than {_MOST_VALUES} values")])
        if isinstance(node, yaml.MappingNode):
            return dict(self._items(node, path))
        if isinstance(node, yaml.SequenceNode):
            return [self._entry(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _entry(self, node: yaml.Node, path: Keys) -> Any:
        self._document.lines[path] = node.start_mark.line + 1
        return self.value(node, path)

    def _items(self, node: yaml.MappingNode, path: Keys) -> Iterator[tuple[str, Any]]:
        self._refuse_repeats(node, path)
        self._loader.flatten_mapping(node)
        for key_node, value_node in node.value:
            key = self._key(key_node, path)
            if not _is_empty(value_node):
                self._document.lines[*path, key] = key_node.start_mark.line + 1
                yield key, self.value(value_node, (*path, key))

    def _refuse_repeats(self, node: yaml.MappingNode, path: Keys) -> None:
        if id(node) in self._flattened:  # merged keys now stand before a mapping's own, which win
            return
        self._flattened.add(id(node))
        seen: set[str] = set()
        for key_node, _ in node.value:
            name = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if name in seen:
                raise self._error(key_node, path, f"{name!r} is given twice; keep one")
            if name is not None:
                seen.add(name)

    def _key(self, node: yaml.Node, path: Keys) -> str:
        if not isinstance(node, yaml.ScalarNode) or node.tag != "tag:yaml.org,2002:str":
            name = node.value if isinstance(node, yaml.ScalarNode) else "a section"
            raise self._error(node, path, f"the key {name!r} is not text; write it in quotes")
        return str(node.value)

    def _scalar(self, node: yaml.Node, path: Keys) -> Any:
        try:
            return self._loader.construct_object(node)
        except ValueError as error:
            raise self._error(node, path, f"cannot be read: {error}") from error

    def _error(self, node: yaml.Node, path: Keys, message: str) -> ConfigError:
        document = Document(f"{self._document.name}:{node.start_mark.line + 1}")
        return ConfigError([document.problem(path, message)])


def _is_empty(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.value == "" and node.style is None
