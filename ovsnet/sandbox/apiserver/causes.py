"""The causes that validation gives, in the words of a real server."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from ovsnet.sandbox.apiserver.status import Cause


def required(field: str, message: str = "") -> Cause:
    """A field that must be given."""
    return Cause(
        "FieldValueRequired", "Required value" + (f": {message}" if message else ""), field
    )


def wrong(field: str, value: Any, message: str) -> Cause:
    """A field with a value that it cannot have."""
    if isinstance(value, list):
        shown = msgspec.json.encode(value).decode()
    else:
        shown = f'"{value}"' if isinstance(value, str) else str(value)
    return Cause("FieldValueInvalid", f"Invalid value: {shown}: {message}", field)


def forbidden(field: str, message: str) -> Cause:
    """A field that may not be given, or not changed."""
    return Cause("FieldValueForbidden", f"Forbidden: {message}", field)


def unsupported(field: str, value: Any, known: Iterable[str]) -> Cause:
    """A field whose value is none of the few that it can have."""
    listed = ", ".join(f'"{name}"' for name in sorted(known))
    message = f'Unsupported value: "{value}": supported values: {listed}'
    return Cause("FieldValueNotSupported", message, field)


def duplicate(field: str, value: Any) -> Cause:
    """An item that may be there once and is there twice."""
    return Cause("FieldValueDuplicate", f'Duplicate value: "{value}"', field)


def too_many(field: str, count: int, most: int) -> Cause:
    """A list that is longer than it may be."""
    message = f"Too many: {count}: must have at most {most} items"
    return Cause("FieldValueTooMany", message, field)
