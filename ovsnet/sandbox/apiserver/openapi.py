"""The OpenAPI documents: version 2 as JSON and protobuf, version 3 as JSON.

They carry what `kubectl apply` and `kubectl explain` read: definitions with types and merge keys,
and for version 3 the paths that say which parameters and patch types a resource takes. There are
no descriptions, because `schema.json` has none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import msgspec

from ovsnet.sandbox.apiserver import discovery
from ovsnet.sandbox.apiserver.kinds import KINDS, Kind, Object
from ovsnet.sandbox.apiserver.schema import definitions

V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
"""Media type of version 2 in protobuf. Clients ask with `@` for its last dot but one, which no
media type may have."""

PATCH_TYPES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)

_INFO = {"title": "ovsnet sandbox", "version": discovery.VERSION["gitVersion"]}
_JSON_TYPE = "application/json"


@cache
def v2_json() -> bytes:
    """Version 2 as JSON."""
    return msgspec.json.encode(
        {"swagger": "2.0", "info": _INFO, "paths": {}, "definitions": definitions()}
    )


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _field(number: int, value: str | bytes) -> bytes:
    """A length-delimited protobuf field: a string or an embedded message."""
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _named(items: Mapping[str, bytes]) -> bytes:
    """A message whose field 1 repeats pairs of name and value, as gnostic writes maps."""
    return b"".join(_field(1, _field(1, k) + _field(2, v)) for k, v in items.items())


def _extension(name: str, value: Any) -> bytes:
    # An extension's value is text in YAML, of which JSON is a part.
    return _field(1, name) + _field(2, _field(2, msgspec.json.encode(value)))


def _schema_message(node: Object) -> bytes:
    """A schema as `openapi.v2.Schema` of gnostic's OpenAPIv2.proto."""
    parts = []
    for name, number in (("$ref", 1), ("format", 2)):
        if name in node:
            parts.append(_field(number, node[name]))
    parts += [_field(19, name) for name in node.get("required", ())]
    if "additionalProperties" in node:
        parts.append(_field(21, _field(1, _schema_message(node["additionalProperties"]))))
    if "type" in node:
        parts.append(_field(22, _field(1, node["type"])))
    if "items" in node:
        parts.append(_field(23, _field(1, _schema_message(node["items"]))))
    if "properties" in node:
        properties = {name: _schema_message(child) for name, child in node["properties"].items()}
        parts.append(_field(25, _named(properties)))
    parts += [_field(31, _extension(k, v)) for k, v in node.items() if k.startswith("x-")]
    return b"".join(parts)


def _patch_message(kind: Kind) -> bytes:
    """A path that says which parameters patches of a kind take: kubectl asks before a dry run."""
    names = [parameter["name"] for parameter in _WRITE_PARAMETERS]
    parameters = b"".join(
        _field(8, _field(1, _field(2, _field(3, _field(2, "query") + _field(4, name)))))
        for name in names
    )
    identity = {"group": kind.group, "kind": kind.kind, "version": kind.version}
    extension = _field(13, _extension("x-kubernetes-group-version-kind", identity))
    return _field(8, parameters + extension)


@cache
def v2_protobuf() -> bytes:
    """Version 2 as `openapi.v2.Document` of gnostic's OpenAPIv2.proto."""
    paths = b"".join(
        _field(2, _field(1, path) + _field(2, _patch_message(kind)))
        for kind in KINDS
        for path, item in _paths(kind)
        if "patch" in item
    )
    info = _field(1, _INFO["title"]) + _field(2, _INFO["version"])
    schemas = {name: _schema_message(node) for name, node in definitions().items()}
    return _field(1, "2.0") + _field(2, info) + _field(8, paths) + _field(9, _named(schemas))


def _parameter(name: str, type_: str = "string") -> Object:
    return {"name": name, "in": "query", "schema": {"type": type_, "uniqueItems": True}}


_WRITE_PARAMETERS = [_parameter(name) for name in ("dryRun", "fieldManager", "fieldValidation")]


def _operation(kind: Kind, action: str, body_types: tuple[str, ...]) -> Object:
    reference = {"$ref": f"#/components/schemas/{kind.definition}"}
    operation: Object = {
        "operationId": f"{action}_{kind.plural}",
        "responses": {"200": {"description": "OK", "content": {_JSON_TYPE: {"schema": reference}}}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {
            "group": kind.group,
            "kind": kind.kind,
            "version": kind.version,
        },
    }
    if body_types:
        operation["parameters"] = _WRITE_PARAMETERS
        content = {media: {"schema": reference} for media in body_types}
        operation["requestBody"] = {"content": content, "required": True}
        if action == "patch":
            operation["parameters"] = [*_WRITE_PARAMETERS, _parameter("force", "boolean")]
    return operation


def _paths(kind: Kind) -> Iterator[tuple[str, Object]]:
    base = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    if kind.namespaced:
        base += "/namespaces/{namespace}"
    yield (
        f"{base}/{kind.plural}",
        {
            "get": _operation(kind, "list", ()),
            "post": _operation(kind, "post", (_JSON_TYPE,)),
        },
    )
    yield (
        f"{base}/{kind.plural}/{{name}}",
        {
            "get": _operation(kind, "get", ()),
            "put": _operation(kind, "put", (_JSON_TYPE,)),
            "patch": _operation(kind, "patch", PATCH_TYPES),
            "delete": _operation(kind, "delete", ()),
        },
    )


def _with_v3_references(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _with_v3_references(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_with_v3_references(item) for item in node]
    if isinstance(node, str):
        return node.replace("#/definitions/", "#/components/schemas/")
    return node


def _closure(roots: list[str]) -> Object:
    found: Object = {}
    while roots:
        name = roots.pop()
        if name in found:
            continue
        found[name] = definitions()[name]
        text = msgspec.json.encode(found[name]).decode()
        roots += [part.partition('"')[0] for part in text.split("#/definitions/")[1:]]
    return found


@cache
def v3_document(group: str, version: str) -> bytes | None:
    """The version 3 document of one group and version, or None if there is none."""
    kinds = [k for k in KINDS if (k.group, k.version) == (group, version)]
    if not kinds:
        return None
    schemas = _closure([kind.definition for kind in kinds])
    document = {
        "openapi": "3.0.0",
        "info": _INFO,
        "paths": dict(path for kind in kinds for path in _paths(kind)),
        "components": {"schemas": _with_v3_references(schemas)},
    }
    return msgspec.json.encode(document)


@cache
def v3_index() -> bytes:
    """The answer to /openapi/v3: where the documents are."""
    paths = {}
    for group, version in dict.fromkeys((k.group, k.version) for k in KINDS):
        name = f"apis/{group}/{version}" if group else f"api/{version}"
        digest = hashlib.sha256(v3_document(group, version) or b"").hexdigest()[:32].upper()
        paths[name] = {"serverRelativeURL": f"/openapi/v3/{name}?hash={digest}"}
    return msgspec.json.encode({"paths": paths})
