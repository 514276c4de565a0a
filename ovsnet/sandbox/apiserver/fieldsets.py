"""Sets of fields, and merging by them: the arithmetic under server-side apply.

A field is a path of elements as FieldsV1 writes them: `f:NAME` for a field or a map's key,
`k:{"name":"x"}` for an item of a keyed list, `v:"x"` for a value in a set. A keyed item's own
presence is the path that ends in its key.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from ovsnet.sandbox.apiserver.kinds import Object
from ovsnet.sandbox.apiserver.schema import ANYTHING, Schema, Shape
from ovsnet.sandbox.apiserver.status import bad_request

Path = tuple[str, ...]
FieldSet = frozenset[Path]

_ITEM_DEFAULTS: Mapping[str, Any] = {"protocol": "TCP"}
_SELF = "."


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def _key_element(item: Any, schema: Schema) -> str:
    keys = {}
    for name in schema.merge.list_keys:
        value = item.get(name, _ITEM_DEFAULTS.get(name)) if isinstance(item, dict) else None
        if value is not None:
            keys[name] = value
    return "k:" + _text(keys)


def _walk(value: Any, schema: Schema, path: Path) -> Iterator[tuple[Path, Any]]:
    """Every field that is owned by itself, with its value."""
    if schema.shape in (Shape.STRUCT, Shape.MAP) and isinstance(value, dict):
        if not value or (schema.merge.atomic and path):
            yield path, value
        else:
            for name, item in value.items():
                yield from _walk(item, schema.of_field(name), (*path, f"f:{name}"))
    elif schema.shape is Shape.LIST and isinstance(value, list) and value:
        yield from _walk_list(value, schema, path)
    else:
        yield path, value


def _walk_list(value: list[Any], schema: Schema, path: Path) -> Iterator[tuple[Path, Any]]:
    match schema.merge.list_type:
        case "map":
            for item in value:
                here = (*path, _key_element(item, schema))
                yield here, None
                yield from _walk(item, schema.item or ANYTHING, here)
        case "set":
            for item in value:
                yield (*path, "v:" + _text(item)), item
        case _:
            yield path, value


def values_of(obj: Object, schema: Schema, unowned: Collection[Path] = ()) -> dict[Path, Any]:
    """The fields of an object with their values, but for those that nobody can own."""
    return {
        path: value
        for path, value in _walk(obj, schema, ())
        if path and path not in unowned and path[:2] not in unowned
    }


def leaves(obj: Object, schema: Schema, unowned: Collection[Path] = ()) -> Iterable[Path]:
    """The fields of an object."""
    return values_of(obj, schema, unowned).keys()


def encode_set(fields: FieldSet) -> Object:
    """A set as FieldsV1."""
    tree: Object = {}
    for path in sorted(fields):
        node = tree
        for element in path:
            node = node.setdefault(element, {})
        if path[-1].startswith("k:"):
            node[_SELF] = {}
    return tree


def decode_set(tree: Any) -> FieldSet:
    """Read FieldsV1. Raises ApiError (400) if it is none."""
    if not isinstance(tree, dict):
        raise bad_request("managedFields: fieldsV1 must be an object")

    def walk(node: Object, path: Path) -> Iterator[Path]:
        if not isinstance(node, dict):
            raise bad_request("managedFields: fieldsV1 holds something that is no object")
        if path and (not node or _SELF in node):
            yield path
        for element, child in node.items():
            if element != _SELF:
                yield from walk(child, (*path, element))

    return frozenset(walk(tree, ()))


def describe(path: Path) -> str:
    """A path as messages show it: `.spec.containers[name="a"].image`."""
    shown = ""
    for element in path:
        kind, _, rest = element.partition(":")
        if kind == "f":
            shown += f".{rest}"
        elif kind == "k":
            pairs = json.loads(rest)
            shown += "[" + ",".join(f"{k}={_text(v)}" for k, v in pairs.items()) + "]"
        else:
            shown += f"[={rest}]"
    return shown


def merge_applied(live: Any, config: Any, schema: Schema) -> Any:
    """The configuration laid over what is there, item by item where lists are keyed."""
    if schema.shape in (Shape.STRUCT, Shape.MAP) and isinstance(config, dict):
        # The root of an object is never atomic, a field's type may be.
        if not isinstance(live, dict) or schema.merge.atomic:
            live = {}
        merged = dict(live)
        for name, item in config.items():
            if item is not None:
                merged[name] = merge_applied(live.get(name), item, schema.of_field(name))
        return merged
    if schema.shape is Shape.LIST and isinstance(config, list) and isinstance(live, list):
        if schema.merge.list_type == "map":
            return _merge_items(live, config, schema)
        if schema.merge.list_type == "set":
            return live + [item for item in config if item not in live]
    return config


def _merge_items(live: list[Any], config: list[Any], schema: Schema) -> list[Any]:
    wanted = {_key_element(item, schema): item for item in config}
    item_schema = schema.item or ANYTHING
    result = []
    for item in live:
        applied = wanted.pop(_key_element(item, schema), None)
        result.append(item if applied is None else merge_applied(item, applied, item_schema))
    return result + [merge_applied(None, item, item_schema) for item in wanted.values()]


def remove_paths(obj: Any, gone: FieldSet, owned: FieldSet, schema: Schema) -> Any:
    """The object without the fields in `gone`.

    An item of a keyed list, and what is in it, stays while anything of it is in `owned`. A map
    or struct that this empties goes too.
    """
    if not gone:
        return obj
    kept = frozenset(path[:length] for path in owned for length in range(1, len(path) + 1))
    return _prune(obj, (), gone, kept, schema)


_GONE = object()


def _prune(value: Any, path: Path, gone: FieldSet, kept: FieldSet, schema: Schema) -> Any:
    if path in gone and path not in kept:
        return _GONE
    if schema.shape in (Shape.STRUCT, Shape.MAP) and isinstance(value, dict):
        result = {}
        for name, item in value.items():
            rest = _prune(item, (*path, f"f:{name}"), gone, kept, schema.of_field(name))
            if rest is not _GONE:
                result[name] = rest
        return _GONE if value and not result and path else result
    if schema.shape is Shape.LIST and isinstance(value, list):
        match schema.merge.list_type:
            case "map":
                item_schema = schema.item or ANYTHING
                items = [
                    _prune(item, (*path, _key_element(item, schema)), gone, kept, item_schema)
                    for item in value
                ]
            case "set":
                items = [
                    _GONE if (p := (*path, "v:" + _text(item))) in gone and p not in kept else item
                    for item in value
                ]
            case _:
                return value
        left = [item for item in items if item is not _GONE]
        return _GONE if value and not left else left
    return value
