"""Server-side tables (`meta.k8s.io/v1 Table`), which kubectl prints as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from ovsnet.sandbox.apiserver.kinds import Object


class IncludeObject(StrEnum):
    """How much of each object a row carries (query parameter includeObject)."""

    NONE = "None"
    METADATA = "Metadata"
    OBJECT = "Object"


@dataclass(frozen=True)
class Column:
    """One column: its heading, what fills it, and whether only `-o wide` shows it."""

    name: str
    cell: Callable[[Object, datetime], Any]
    wide: bool = False
    type: str = "string"

    def definition(self) -> Object:
        """The column as a table's header has it."""
        return {
            "name": self.name,
            "type": self.type,
            "format": "name" if self.name == "Name" else "",
            "description": "",
            "priority": 1 if self.wide else 0,
        }


def parse_time(text: str) -> datetime:
    """A time of the API, with or without microseconds, as an aware datetime."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)


_MINUTE, _HOUR, _DAY, _YEAR = 60, 3600, 86400, 365 * 86400
_FORMS = (
    (2 * _MINUTE, 1, "s", 0, ""),
    (10 * _MINUTE, _MINUTE, "m", 1, "s"),
    (3 * _HOUR, _MINUTE, "m", 0, ""),
    (8 * _HOUR, _HOUR, "h", _MINUTE, "m"),
    (2 * _DAY, _HOUR, "h", 0, ""),
    (8 * _DAY, _DAY, "d", _HOUR, "h"),
    (2 * _YEAR, _DAY, "d", 0, ""),
    (8 * _YEAR, _YEAR, "y", _DAY, "d"),
)
"""Below how many seconds which unit is used, and which second unit (0 for none)."""


def duration(elapsed: timedelta) -> str:
    """A time span in the short form of kubectl: 5s, 3m12s, 47m, 5h3m, 2d4h, 40d, 3y12d."""
    seconds = int(elapsed.total_seconds())
    if seconds < 0:
        return "0s" if seconds >= -1 else "<invalid>"
    for below, large, large_unit, small, small_unit in _FORMS:
        if seconds < below:
            whole, rest = divmod(seconds, large)
            part = rest // small if small else 0
            return f"{whole}{large_unit}" + (f"{part}{small_unit}" if part else "")
    return f"{seconds // _YEAR}y"


def age_since(text: str | None, now: datetime) -> str:
    """How long ago a time of the API is, in kubectl's short form."""
    return duration(now - parse_time(text)) if text else "<unknown>"


def _name(obj: Object, _: datetime) -> Any:
    return obj["metadata"]["name"]


def _age(obj: Object, now: datetime) -> Any:
    return age_since(obj["metadata"].get("creationTimestamp"), now)


NAME = Column("Name", _name)
AGE = Column("Age", _age)


def _partial(obj: Object) -> Object:
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": obj["metadata"],
    }


def partial_metadata(obj: Object) -> Object:
    """An object's metadata alone, as metadata clients ask for it."""
    return _partial(obj)


def table(
    columns: Sequence[Column],
    objects: Iterable[Object],
    include: IncludeObject,
    *,
    now: datetime,
    metadata: Object,
    header: bool = True,
) -> Object:
    """A table of objects. Watches send the header with their first event only."""
    rows = []
    for obj in objects:
        row: Object = {"cells": [column.cell(obj, now) for column in columns]}
        if include is IncludeObject.OBJECT:
            row["object"] = obj
        elif include is IncludeObject.METADATA:
            row["object"] = _partial(obj)
        rows.append(row)
    definitions = [column.definition() for column in columns] if header else None
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": definitions,
        "rows": rows,
    }
