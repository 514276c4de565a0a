"""JSON Patch (RFC 6902) with JSON Pointer (RFC 6901)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any


class PatchError(ValueError):
    """A patch that is malformed, or does not fit the document; says which operation and why."""


def _pointer(text: Any) -> list[str]:
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise PatchError(f"{text!r} is no JSON pointer")
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _index(part: str, length: int) -> int:
    if not part.isdecimal() or (part != "0" and part.startswith("0")):
        raise PatchError(f"{part!r} is no index of a list")
    index = int(part)
    if index >= length:
        raise PatchError(f"index {index} is outside a list of {length}")
    return index


def _child(parent: Any, part: str) -> Any:
    if isinstance(parent, list):
        return parent[_index(part, len(parent))]
    if isinstance(parent, dict) and part in parent:
        return parent[part]
    raise PatchError(f"there is no {part!r}")


def _get(document: Any, path: Sequence[str]) -> Any:
    for part in path:
        document = _child(document, part)
    return document


def _add(document: Any, path: Sequence[str], value: Any) -> Any:
    if not path:
        return value
    parent, last = _get(document, path[:-1]), path[-1]
    if isinstance(parent, list):
        parent.insert(len(parent) if last == "-" else _index(last, len(parent) + 1), value)
    elif isinstance(parent, dict):
        parent[last] = value
    else:
        raise PatchError(f"there is nothing that could hold {last!r}")
    return document


def _remove(document: Any, path: Sequence[str]) -> Any:
    if not path:
        return None
    parent, last = _get(document, path[:-1]), path[-1]
    _child(parent, last)
    del parent[int(last) if isinstance(parent, list) else last]
    return document


def _same(left: Any, right: Any) -> bool:
    # JSON's true is not 1, which Python's comparison would have it be.
    if isinstance(left, bool) is not isinstance(right, bool):
        return False
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[k], right[k]) for k in left)
    return bool(left == right)


def _apply(document: Any, operation: Any) -> Any:
    if not isinstance(operation, dict):
        raise PatchError("expected an object with op and path")
    path = _pointer(operation.get("path"))
    match operation.get("op"):
        case "add" | "replace" | "test" as verb if "value" not in operation:
            raise PatchError(f"{verb} has no value")
        case "add":
            return _add(document, path, copy.deepcopy(operation["value"]))
        case "remove":
            return _remove(document, path)
        case "replace":
            _get(document, path)
            value = copy.deepcopy(operation["value"])
            return _add(_remove(document, path), path, value) if path else value
        case "test":
            if not _same(_get(document, path), operation["value"]):
                raise PatchError("the value is not the expected one")
            return document
        case "move":
            source = _pointer(operation.get("from"))
            if path[: len(source)] == source and path != source:
                raise PatchError("a value cannot move into itself")
            value = _get(document, source)
            return _add(_remove(document, source), path, value)
        case "copy":
            value = copy.deepcopy(_get(document, _pointer(operation.get("from"))))
            return _add(document, path, value)
        case other:
            raise PatchError(f"{other!r} is no operation of JSON Patch")


def apply_json_patch(document: Any, patch: Any) -> Any:
    """The document after all operations in order. The given one is not changed.

    Raises PatchError, naming the operation, if one fails; then none has happened.
    """
    if not isinstance(patch, list):
        raise PatchError("a JSON patch is a list of operations")
    result = copy.deepcopy(document)
    for number, operation in enumerate(patch):
        try:
            result = _apply(result, operation)
        except PatchError as error:
            raise PatchError(f"operation {number}: {error}") from None
    return result
