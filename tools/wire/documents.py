"""The files of ``docs/wire``."""

from __future__ import annotations

import json
from typing import Any, Final

import yaml

from tools.wire.asyncapi import asyncapi
from tools.wire.examples import Example, examples
from tools.wire.readme import readme
from tools.wire.schemas import schema_of
from tunestream.events.registry import event_types

__all__ = ["wire_documents"]

_WIDTH: Final = 110


def wire_documents() -> dict[str, str]:
    """Return each file's text by its path within ``docs/wire``."""
    found = examples()
    files = {"README.md": readme(found), "asyncapi.yaml": _yaml(asyncapi(found))}
    files |= {f"schemas/{name}.json": _json(schema_of(name)) for name in event_types()}
    return files | {f"examples/{_path(example)}": _json(example.document()) for example in found}


def _path(example: Example) -> str:
    return f"{example.topic}/{example.ce_type}.json"


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


class _Dumper(yaml.SafeDumper):
    """Writes what appears twice twice: anchors would make the document hard to read."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _yaml(document: dict[str, Any]) -> str:
    text = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_WIDTH)
    return f"# Written by `make docs`.\n{text}"
