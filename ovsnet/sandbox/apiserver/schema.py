"""What fields objects have, of which types, and how their lists and maps merge.

Read once from `schema.json` (see `schema_source`). The walk over a definition follows the rules
of the OpenAPI vendor extensions of Kubernetes: `x-kubernetes-patch-strategy` and `-merge-key` for
strategic merge patches, `x-kubernetes-list-type`, `-list-map-keys` and `-map-type` for
server-side apply.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cache
from importlib import resources
from typing import Any

import msgspec

from ovsnet.sandbox.apiserver.kinds import Kind, Object

_PREFIX = "#/definitions/"
_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_FREE = frozenset({_META + "FieldsV1", "io.k8s.apimachinery.pkg.runtime.RawExtension"})
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
_TIMES = frozenset({_META + "Time", _META + "MicroTime"})


class Shape(Enum):
    """What kind of JSON value a field holds."""

    STRUCT = "object"
    MAP = "map"
    LIST = "array"
    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    QUANTITY = "quantity"
    INT_OR_STRING = "integer or string"
    FREE = "anything"


@dataclass(frozen=True)
class Merge:
    """How two values of a field become one."""

    strategies: tuple[str, ...] = ()
    """Of a strategic merge patch: "merge", "retainKeys" or both; none means replace."""
    key: str = ""
    """Of a strategic merge patch: the field that names an item of a list of objects."""
    list_type: str = "atomic"
    """Of server-side apply: "atomic", "set" or "map"."""
    list_keys: tuple[str, ...] = ()
    """Of server-side apply: the fields that name an item of a list of type map."""
    atomic: bool = False
    """Of server-side apply: whether a map or struct belongs to one manager as a whole."""


@dataclass(frozen=True)
class Schema:
    """A field's type."""

    shape: Shape
    fields: Mapping[str, Schema] = field(default_factory=dict, hash=False)
    """Of a STRUCT: its fields."""
    item: Schema | None = None
    """Of a LIST or MAP: the type of what is in it."""
    merge: Merge = Merge()
    required: frozenset[str] = frozenset()
    """Of a STRUCT: fields that are there even when they are empty."""

    def of_field(self, name: str) -> Schema:
        """The type of a field of this name, or of what a map has under it."""
        if self.shape is Shape.STRUCT:
            return self.fields.get(name, ANYTHING)
        return self.item or ANYTHING


ANYTHING = Schema(Shape.FREE)


@cache
def definitions() -> Mapping[str, Object]:
    """The definitions as `schema.json` has them."""
    text = resources.files(__package__).joinpath("schema.json").read_bytes()
    decoded: Mapping[str, Object] = msgspec.json.decode(text)
    return decoded


def _merge(node: Object) -> Merge:
    strategy = node.get("x-kubernetes-patch-strategy", "")
    return Merge(
        strategies=tuple(filter(None, strategy.split(","))),
        key=node.get("x-kubernetes-patch-merge-key", ""),
        list_type=node.get("x-kubernetes-list-type", "atomic"),
        list_keys=tuple(node.get("x-kubernetes-list-map-keys", ())),
        atomic=node.get("x-kubernetes-map-type") == "atomic",
    )


def _shape_of_named(name: str) -> Shape | None:
    if name in _FREE:
        return Shape.FREE
    if name == _QUANTITY:
        return Shape.QUANTITY
    if name == _INT_OR_STRING:
        return Shape.INT_OR_STRING
    return Shape.STRING if name in _TIMES else None


class _Fields(Mapping[str, "Schema"]):
    """The fields of a definition, each built when it is first asked for: types are recursive."""

    def __init__(self, properties: Object) -> None:
        self._properties = properties
        self._built: dict[str, Schema] = {}

    def __getitem__(self, name: str) -> Schema:
        if name not in self._built:
            self._built[name] = _schema(self._properties[name])
        return self._built[name]

    def __iter__(self) -> Any:
        return iter(self._properties)

    def __len__(self) -> int:
        return len(self._properties)

    def __contains__(self, name: object) -> bool:
        return name in self._properties


def _schema(node: Object) -> Schema:
    reference = node.get("$ref")
    if reference is not None:
        named = of_definition(reference.removeprefix(_PREFIX))
        own = _merge(node)
        atomic = own.atomic or named.merge.atomic
        merge = Merge(own.strategies, own.key, own.list_type, own.list_keys, atomic)
        return replace(named, merge=merge)
    match node.get("type"):
        case "array":
            return Schema(Shape.LIST, item=_schema(node["items"]), merge=_merge(node))
        case "object" if "additionalProperties" in node:
            return Schema(Shape.MAP, item=_schema(node["additionalProperties"]), merge=_merge(node))
        case "object" if "properties" in node:
            return Schema(Shape.STRUCT, _Fields(node["properties"]), merge=_merge(node))
        case "string" | "integer" | "number" | "boolean" as simple:
            return Schema(Shape(simple))
    return ANYTHING


@cache
def of_definition(name: str) -> Schema:
    """The type of a named definition. Raises KeyError if `schema.json` has no such name."""
    shape = _shape_of_named(name)
    if shape is not None:
        return Schema(shape)
    node = definitions()[name]
    properties = node.get("properties")
    if properties is None:
        # An empty struct, such as emptyDir may be: it has no fields that could be unknown.
        return Schema(Shape.STRUCT, {}, merge=_merge(node))
    required = frozenset(node.get("required", ()))
    return Schema(Shape.STRUCT, _Fields(properties), merge=_merge(node), required=required)


def of_kind(kind: Kind) -> Schema:
    """The type of a kind's objects."""
    return of_definition(kind.definition)


class WrongTypeError(ValueError):
    """A value of another JSON type than the field has; the message names field and types."""


def _described(value: object) -> str:
    match value:
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
    return "object"


_ACCEPTED: Mapping[Shape, tuple[type, ...]] = {
    Shape.STRUCT: (dict,),
    Shape.MAP: (dict,),
    Shape.LIST: (list,),
    Shape.STRING: (str,),
    Shape.INTEGER: (int,),
    Shape.NUMBER: (int, float),
    Shape.BOOLEAN: (bool,),
    Shape.QUANTITY: (str, int, float),
    Shape.INT_OR_STRING: (str, int),
}


def conform(schema: Schema, value: Any, unknown: list[str], path: str = "") -> Any:
    """The value with only known fields, no nulls, no empty lists, as a server keeps it.

    The paths of unknown fields are appended to `unknown`. Raises WrongTypeError.
    """
    if schema.shape is Shape.FREE:
        return value
    accepted = _ACCEPTED[schema.shape]
    wrong_boolean = isinstance(value, bool) and schema.shape is not Shape.BOOLEAN
    fits = isinstance(value, accepted) and not wrong_boolean
    if not fits:
        raise WrongTypeError(f"{path}: expected {schema.shape.value}, got {_described(value)}")
    if schema.shape is Shape.STRUCT:
        return _conform_struct(schema, value, unknown, path)
    if schema.shape is Shape.QUANTITY:
        return str(value)
    item = schema.item
    if item is None:
        return value
    # A null among strings is an empty string and one among structs an empty one, as Go decodes it.
    blank: Any = {Shape.STRING: "", Shape.STRUCT: {}}.get(item.shape)
    if schema.shape is Shape.LIST:
        filled = [blank if element is None else element for element in value]
        return [
            conform(item, element, unknown, f"{path}[{index}]")
            for index, element in enumerate(filled)
            if element is not None
        ]
    kept = {key: blank if element is None else element for key, element in value.items()}
    return {
        key: conform(item, element, unknown, f"{path}.{key}")
        for key, element in kept.items()
        if element is not None
    }


def _conform_struct(schema: Schema, value: Object, unknown: list[str], path: str) -> Object:
    kept = {}
    for name, item in value.items():
        here = f"{path}.{name}" if path else name
        if name not in schema.fields:
            unknown.append(here)
        elif item is not None:
            field_schema = schema.fields[name]
            conformed = conform(field_schema, item, unknown, here)
            # An empty list or map says what an absent one says; an empty struct says more.
            optional = field_schema.shape in (Shape.LIST, Shape.MAP) and name not in schema.required
            if conformed or not optional:
                kept[name] = conformed
    return kept
