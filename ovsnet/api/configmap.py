"""One ConfigMap (core/v1), followed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from ovsnet.api.events import Changed, Deleted, Event, Synced
from ovsnet.api.objects import Converted, Kind, Metadata
from ovsnet.api.watch import Server, Watch


class ConfigMap(msgspec.Struct, frozen=True):
    """The part of a ConfigMap that is needed."""

    metadata: Metadata
    data: dict[str, str] | None = None


def _key(metadata: Metadata) -> str:
    return metadata.name


def watch_config_map(
    server: Server, namespace: str, name: str, emit: Callable[[Mapping[str, str] | None], None]
) -> Watch:
    """Follows one ConfigMap: its data whenever they change, or None while there is none.

    The watch is returned not yet started. While the API server cannot be reached nothing is
    emitted. Its account needs the rights list and watch of this name alone.
    """
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    kind: Kind[ConfigMap, ConfigMap] = Kind("ConfigMap", path, ConfigMap, Converted, _key)

    def data_of(event: Event) -> None:
        match event:
            case Synced(_, objects):
                found = objects.get(name)
                emit((found.data or {}) if isinstance(found, ConfigMap) else None)
            case Changed(_, _, ConfigMap() as found):
                emit(found.data or {})
            case Deleted():
                emit(None)
            case _:
                pass

    return Watch(server, kind, data_of, field_selector=f"metadata.name={name}")
