"""Reading objects of which nothing may be ignored: what is not understood is a fault.

The API server drops fields that it does not know, but it may know more of them than we do.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ovsnet.model import Fault

_LONGEST = 60
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,59}")
_NOTHING: Mapping[str, Any] = {}


def members(
    value: object, path: str, known: Collection[str], faults: list[Fault]
) -> Mapping[str, Any]:
    """An object's fields; a fault if it is none, and for each field that is not among the known.

    A field is read with `get`: one that is null is absent, as Go reads it.
    """
    if not isinstance(value, dict):
        faults.append(Fault(path, f"{shown(value)}: expected an object"))
        return _NOTHING
    for name in value:
        if name not in known:
            place = f"{path}.{name}" if _PLAIN.fullmatch(name) else f"{path}[{shown(name)}]"
            faults.append(Fault(place, f"unknown field: expected one of {', '.join(known)}"))
    return value


def entries(value: object, path: str, faults: list[Fault]) -> Iterator[tuple[str, Any]]:
    """A list's items with their paths; none if it is null, none and a fault if it is no list."""
    if value is None:
        return
    if not isinstance(value, list):
        faults.append(Fault(path, f"{shown(value)}: expected a list"))
        return
    for index, item in enumerate(value):
        yield f"{path}[{index}]", item


def shown(value: object) -> str:
    """A value in a message, of at most a few words."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
