"""Reading objects of which nothing may be ignored: what is not understood is a fault.

The API server drops fields that it does not know, but it may know more of them than we do.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final, TypeVar

from ovsnet.model import Fault, Protocol

PROTOCOLS: Final = {str(protocol): protocol for protocol in Protocol}
"""The protocols of ports by their words."""

MeaningT = TypeVar("MeaningT")

_LONGEST = 60
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,59}")


def members(
    value: object, path: str, known: Collection[str], faults: list[Fault]
) -> Mapping[str, Any] | None:
    """An object's fields, None if it is no object; a fault for that, and for each unknown field.

    A field is read with `get`: one that is null is absent, as Go reads it.
    """
    if not isinstance(value, dict):
        faults.append(Fault(path, f"{shown(value)}: expected an object"))
        return None
    for name in value:
        if name not in known:
            place = f"{path}.{name}" if _PLAIN.fullmatch(name) else f"{path}[{shown(name)}]"
            faults.append(Fault(place, f"unknown field: expected one of {', '.join(known)}"))
    return value


def entries(value: object, path: str, faults: list[Fault]) -> list[Any]:
    """A list's items; none if it is null, none and a fault if it is no list."""
    if isinstance(value, list):
        return value
    if value is not None:
        faults.append(Fault(path, f"{shown(value)}: expected a list"))
    return []


def one_of(
    word: object,
    known: Mapping[str, MeaningT],
    path: str,
    faults: list[Fault],
    instead: str = "",
) -> MeaningT | None:
    """What a word means; None and a fault if it is unknown, which also tells what is done
    `instead`.
    """
    meaning = known.get(word) if isinstance(word, str) else None
    if meaning is None:
        expected = f"{shown(word)}: expected one of {', '.join(known)}"
        faults.append(Fault(path, f"{expected}; {instead}" if instead else expected))
    return meaning


def shown(value: object) -> str:
    """A value in a message, of at most a few words."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
