"""Strategic merge patch: a merge patch that knows which lists are keyed.

The rules are those of the Kubernetes documentation ("Update API objects in place", "Strategic
Merge Patch" in the API conventions): a list with a merge key is merged item by item; a list of
plain values with strategy merge is a set; everything else is replaced. Directives in the patch:
`$patch` (replace, delete, merge), `$deleteFromPrimitiveList/F`, `$setElementOrder/F` and
`$retainKeys`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from ovsnet.sandbox.apiserver.kinds import Object
from ovsnet.sandbox.apiserver.patch.json_patch import PatchError
from ovsnet.sandbox.apiserver.schema import ANYTHING, Schema

DIRECTIVE = "$patch"
RETAIN = "$retainKeys"
DELETE_VALUES = "$deleteFromPrimitiveList/"
ORDER = "$setElementOrder/"


def apply_strategic_patch(document: Object, patch: Any, schema: Schema) -> Object:
    """The document with the patch merged into it by the types of `schema`.

    The given document is not changed. Raises PatchError for an unknown directive, a patch of
    another shape than the document, or a list item without its merge key.
    """
    if not isinstance(patch, dict):
        raise PatchError("a strategic merge patch is an object")
    merged = _merge_object(document, patch, schema)
    return {} if merged is None else merged


def _merge_object(old: Object, patch: Object, schema: Schema) -> Object | None:
    """None where the patch says that the object is to be deleted."""
    match patch.get(DIRECTIVE):
        case None | "merge":
            pass
        case "replace":
            return _fresh({k: v for k, v in patch.items() if k != DIRECTIVE}, schema)
        case "delete":
            return None
        case other:
            raise PatchError(f"{other!r} is no {DIRECTIVE} directive")
    result = _without_unwanted(old, patch)
    for name, value in patch.items():
        if name.startswith("$"):
            continue
        merged = None
        if value is not None:
            merged = _merge_value(name, result.get(name), value, schema.of_field(name))
        if merged is None:
            result.pop(name, None)
        else:
            result[name] = merged
    for name, order in patch.items():
        field = name.removeprefix(ORDER)
        if field != name and isinstance(result.get(field), list):
            merge = schema.of_field(field).merge
            result[field] = _ordered(result[field], order, merge.key, patch.get(field))
    return result


def _without_unwanted(old: Object, patch: Object) -> Object:
    """The object less what `$retainKeys` and `$deleteFromPrimitiveList` say is to go."""
    kept = patch.get(RETAIN, old)
    result = {name: value for name, value in old.items() if name in kept}
    for name, values in patch.items():
        field = name.removeprefix(DELETE_VALUES)
        if field != name and field in result:
            result[field] = [item for item in result[field] if item not in values]
    return result


def _merge_value(name: str, old: Any, patch: Any, schema: Schema) -> Any:
    if isinstance(patch, dict):
        if "replace" in schema.merge.strategies:
            return _fresh(patch, schema)
        return _merge_object(old if isinstance(old, dict) else {}, patch, schema)
    if isinstance(patch, list) and "merge" in schema.merge.strategies:
        base = old if isinstance(old, list) else []
        if schema.merge.key:
            return _merge_keyed(name, base, patch, schema)
        added = [item for item in patch if item not in base]
        return base + list(dict.fromkeys(added))
    if isinstance(old, dict | list) and not isinstance(patch, type(old)):
        raise PatchError(f"{name}: cannot merge into another type")
    return copy.deepcopy(patch)


def _merge_keyed(name: str, old: list[Any], patch: list[Any], schema: Schema) -> list[Any]:
    key, item_schema = schema.merge.key, schema.item or ANYTHING
    items = [item for item in patch if item != {DIRECTIVE: "replace"}]
    result = [] if len(items) < len(patch) else list(old)
    for item in items:
        if not isinstance(item, dict):
            raise PatchError(f"{name}: expected objects in the list")
        if key not in item:
            raise PatchError(f"{name}: an item has no {key!r}, by which items are merged")
        same = [n for n, o in enumerate(result) if isinstance(o, dict) and o.get(key) == item[key]]
        base = result[same[0]] if same else {}
        merged = _merge_object(base, item, item_schema)
        if merged is None:
            for position in reversed(same):
                del result[position]
        elif same:
            result[same[0]] = merged
        else:
            result.append(merged)
    return result


def _fresh(patch: Object, schema: Schema) -> Object:
    """A value that is replaced: what the patch says, without directives inside."""
    return _merge_object({}, {k: v for k, v in patch.items() if k != DIRECTIVE}, schema) or {}


def _ordered(items: list[Any], order: Any, key: str, patched: Any) -> list[Any]:
    """The items in the order that the patch asks for.

    What the order does not name keeps its place relative to the items before it, so that what
    others appended stays where it was.
    """
    if not isinstance(order, list):
        raise PatchError(f"{ORDER} needs a list")

    def name_of(item: Any) -> Any:
        return item.get(key) if key and isinstance(item, dict) else item

    wanted: Sequence[Any] = [name_of(item) for item in order]
    for item in patched if isinstance(patched, list) else ():
        if not (isinstance(item, dict) and DIRECTIVE in item) and name_of(item) not in wanted:
            raise PatchError(f"{name_of(item)!r} is patched and not in {ORDER}")
    named = [item for item in items if name_of(item) in wanted]
    named.sort(key=lambda item: wanted.index(name_of(item)))
    result: list[Any] = []
    position = 0
    for item in items:
        if name_of(item) in wanted:
            result.append(named[position])
            position += 1
        else:
            result.append(item)
    return result
