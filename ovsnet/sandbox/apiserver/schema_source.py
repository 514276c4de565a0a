"""Cuts `schema.json` out of the OpenAPI document that Kubernetes publishes.

    python -m ovsnet.sandbox.apiserver.schema_source swagger.json > schema.json

The document is `api/openapi-spec/swagger.json` of k8s.io/kubernetes (v1.34.4 was used). What is
kept: the definitions that our kinds reach, their fields, types, formats, required fields, and how
lists and maps merge. What is left out: every description, and all paths.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from ovsnet.sandbox.apiserver.kinds import EXTRA_DEFINITIONS, KINDS

_REFERENCE = re.compile(r'"#/definitions/([^"]+)"')


def without_descriptions(value: Any, names: bool = False) -> Any:
    """The same schema with no descriptions; `names` where the keys are names of fields."""
    if isinstance(value, dict):
        return {
            key: without_descriptions(item, key == "properties" and not names)
            for key, item in value.items()
            if names or key != "description"
        }
    if isinstance(value, list):
        return [without_descriptions(item) for item in value]
    return value


def closure(definitions: dict[str, Any], roots: list[str]) -> dict[str, Any]:
    """The definitions that `roots` reach, in alphabetical order.

    Raises KeyError if a root is not in the document.
    """
    found: dict[str, Any] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = without_descriptions(definitions[name])
            waiting += _REFERENCE.findall(json.dumps(found[name]))
    return dict(sorted(found.items()))


def main() -> None:
    """Print one definition a line, so that a new version of Kubernetes is a readable diff."""
    document = json.loads(Path(sys.argv[1]).read_text())
    roots = [kind.definition for kind in KINDS] + list(EXTRA_DEFINITIONS)
    lines = (
        f"{json.dumps(name)}: {json.dumps(definition, sort_keys=True, separators=(',', ':'))}"
        for name, definition in closure(document["definitions"], roots).items()
    )
    sys.stdout.write("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
