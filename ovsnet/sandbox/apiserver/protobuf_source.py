"""Cuts `protobuf.json` out of the `.proto` files that Kubernetes publishes.

    python -m ovsnet.sandbox.apiserver.protobuf_source DIRECTORY... > protobuf.json

The directories are those of the Go modules k8s.io/api and k8s.io/apimachinery (v0.34.4 was used).
For every message that a definition of `schema.json` needs, it has the fields by their numbers: the
name that the field has in JSON, or, after a `+`, the message that JSON has inlined.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from ovsnet.sandbox.apiserver.schema import definitions

_PACKAGE = re.compile(r"^package (\S+);", re.MULTILINE)
_MESSAGE = re.compile(r"^message (\w+) \{(.*?)^\}", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(
    r"^\s*(?:optional|repeated|required|map<)[^;]*?([\w.>]+)\s+(\w+) = (\d+);", re.M
)

Fields = dict[str, tuple[str, str]]
"""Number to name and type."""


def _definition_name(package: str, name: str) -> str:
    return f"{package.replace('k8s.io.', 'io.k8s.', 1)}.{name}"


def messages(text: str) -> Iterator[tuple[str, Fields]]:
    """The messages of a `.proto` file under their definitions' names, types made absolute."""
    package = _PACKAGE.search(text)
    if package is None:
        return
    for name, body in _MESSAGE.findall(text):
        fields = {}
        for type_, field, number in _FIELD.findall(body):
            absolute = type_.lstrip(".").replace("k8s.io.", "io.k8s.", 1)
            if "." not in absolute:
                absolute = _definition_name(package[1], absolute)
            fields[number] = (field, absolute)
        yield _definition_name(package[1], name), fields


def table(found: Mapping[str, Fields]) -> dict[str, dict[str, str]]:
    """The fields of what the definitions need, inlined messages included."""
    result: dict[str, dict[str, str]] = {}

    def add(message: str, properties: Mapping[str, object]) -> None:
        if message in result or message not in found:
            return
        entry = result[message] = {}
        for number, (name, type_) in found[message].items():
            if name in properties:
                entry[number] = name
            elif type_ in found:
                entry[number] = f"+{type_}"
                add(type_, properties)

    for name, definition in definitions().items():
        add(name, definition.get("properties", {}))
    return dict(sorted(result.items()))


def main() -> None:
    """Print one message a line."""
    found: dict[str, Fields] = {}
    for directory in sys.argv[1:]:
        for path in sorted(Path(directory).rglob("generated.proto")):
            found.update(messages(path.read_text()))
    lines = (
        f"{msgspec.json.encode(name).decode()}: {msgspec.json.encode(fields).decode()}"
        for name, fields in table(found).items()
    )
    sys.stdout.write("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
