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


def duration(elapsed: timedelta) -> str:
    """A time span in the short form of kubectl: 5s, 3m12s, 47m, 5h3m, 2d4h, 40d, 3y12d."""
    seconds = int(elapsed.total_seconds())
    if seconds < 0:
        return "0s" if seconds >= -1 else "<invalid>"
    if seconds < 120:
        return f"{seconds}s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if minutes < 10:
        return _two(minutes, "m", seconds % 60, "s")
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    if days < 730:
        return f"{days}d"
    return _two(days // 365, "y", days % 365, "d") if days < 2920 else f"{days // 365}y"


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}" + (f"{small}{small_unit}" if small else "")


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
