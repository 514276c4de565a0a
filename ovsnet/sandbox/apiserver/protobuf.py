"""Kubernetes' protobuf, read and never written.

kubectl sends some objects (`kubectl create deployment`, evictions) in this encoding, and takes JSON
in return. The envelope is described in the API concepts ("Kubernetes Protobuf encoding"); the
fields are those of `protobuf.json` (see `protobuf_source`), their types those of `schema.json`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import Any

import msgspec

from ovsnet.sandbox.apiserver.kinds import Object
from ovsnet.sandbox.apiserver.schema import definitions

MAGIC = b"k8s\x00"

_PREFIX = "#/definitions/"
_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_ZERO_COUNTS = frozenset(
    {
        "activeDeadlineSeconds",
        "backoffLimit",
        "completions",
        "defaultMode",
        "fsGroup",
        "gracePeriodSeconds",
        "leaseTransitions",
        "parallelism",
        "partition",
        "priority",
        "replicas",
        "revisionHistoryLimit",
        "runAsGroup",
        "runAsUser",
        "terminationGracePeriodSeconds",
        "tolerationSeconds",
        "value",
        "weight",
    }
)
"""Integers whose zero says something. Others are encoded even when nobody set them."""


class ProtobufError(ValueError):
    """Bytes that are no message of the expected kind."""


@cache
def _tables() -> Mapping[str, Mapping[str, str]]:
    text = resources.files(__package__).joinpath("protobuf.json").read_bytes()
    decoded: Mapping[str, Mapping[str, str]] = msgspec.json.decode(text)
    return decoded


@cache
def _definition_of(group: str, version: str, kind: str) -> str:
    wanted = {"group": group, "version": version, "kind": kind}
    for name, definition in definitions().items():
        if wanted in definition.get("x-kubernetes-group-version-kind", ()):
            return name
    raise ProtobufError(f"there is no {kind} in {group}/{version}")


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise ProtobufError("a number does not end")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message, in their order: number and raw value. Raises ProtobufError."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, position = _varint(data, position)
            yield number, value
            continue
        if wire == _BYTES:
            length, position = _varint(data, position)
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
        else:
            raise ProtobufError(f"wire type {wire} is not known")
        if position + length > len(data):
            raise ProtobufError("a field is longer than its message")
        yield number, data[position : position + length]
        position += length


def _parts(data: Any) -> dict[int, Any]:
    if not isinstance(data, bytes):
        raise ProtobufError("expected a message")
    return dict(fields(data))


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _text(data: Any) -> str:
    if not isinstance(data, bytes):
        raise ProtobufError("expected text")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ProtobufError("text is not UTF-8") from None


def _time(data: bytes, micro: bool) -> str | None:
    parts = _parts(data)
    if not parts:
        return None
    moment = datetime.fromtimestamp(_signed(parts.get(1, 0)), UTC)
    fraction = f".{parts.get(2, 0) // 1000:06d}" if micro else ""
    return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}Z"


def _int_or_string(data: bytes) -> int | str:
    parts = _parts(data)
    return _text(parts.get(3, b"")) if parts.get(1) else _signed(parts.get(2, 0))


def _named(name: str, data: Any) -> Any:
    """A value of a named definition."""
    short = name.rpartition(".")[2]
    match short:
        case "Time" | "MicroTime":
            return _time(data, short == "MicroTime")
        case "IntOrString":
            return _int_or_string(data)
        case "Quantity":
            return _text(_parts(data).get(1, b""))
        case "RawExtension" | "FieldsV1":
            return msgspec.json.decode(_parts(data).get(1, b"{}"))
    return _message(name, definitions()[name].get("properties", {}), data)


def _value(node: Object, data: Any) -> Any:
    if "$ref" in node:
        return _named(node["$ref"].removeprefix(_PREFIX), data)
    match node.get("type"):
        case "string" if node.get("format") == "byte":
            return base64.b64encode(data).decode()
        case "string":
            return _text(data)
        case "boolean":
            return bool(data)
        case "integer":
            return _signed(data)
    raise ProtobufError(f"a value of type {node.get('type')} is not expected")


def _message(table: str, properties: Mapping[str, Object], data: Any) -> Object:
    result: Object = {}
    if not isinstance(data, bytes):
        raise ProtobufError("expected a message")
    numbers = _tables().get(table, {})
    for number, raw in fields(data):
        name = numbers.get(str(number))
        if name is None:
            continue
        if name.startswith("+"):
            result |= _message(name[1:], properties, raw)
            continue
        node = properties[name]
        if node.get("type") == "array":
            result.setdefault(name, []).append(_value(node["items"], raw))
        elif "additionalProperties" in node:
            entry = _parts(raw)
            value = _map_value(node["additionalProperties"], entry.get(2, b""))
            result.setdefault(name, {})[_text(entry.get(1, b""))] = value
        else:
            value = _value(node, raw)
            unset = value is None or value == "" or (value == 0 and name not in _ZERO_COUNTS)
            if not unset or value is False:
                result[name] = value
    return result


def _map_value(node: Object, data: Any) -> Any:
    if node.get("type") == "array":
        # A list inside a map is a message whose field 1 repeats the items.
        return [_value(node["items"], raw) for _, raw in fields(data)]
    return _value(node, data)


def decode(body: bytes) -> Object:
    """The object that a body holds, as JSON would have it. Raises ProtobufError."""
    if not body.startswith(MAGIC):
        raise ProtobufError("the body does not start as Kubernetes' protobuf does")
    envelope = _parts(body[len(MAGIC) :])
    type_meta = _parts(envelope.get(1, b""))
    api_version, kind = _text(type_meta.get(1, b"")), _text(type_meta.get(2, b""))
    group, _, version = api_version.rpartition("/")
    definition = _definition_of(group, version, kind)
    obj = _named(definition, envelope.get(2, b""))
    return {"apiVersion": api_version, "kind": kind, **obj}
