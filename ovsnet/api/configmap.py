"""One ConfigMap (core/v1), followed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from ovsnet.api.events import Changed, Deleted, Event, Synced
from ovsnet.api.objects import Converted, Kind, Metadata
from ovsnet.api.watch import Server, Watch


class WireConfigMap(msgspec.Struct, frozen=True):
    """The part of a ConfigMap that is needed."""

    metadata: Metadata
    data: dict[str, str] | None = None


def _data(wire: WireConfigMap) -> Converted[Mapping[str, str]]:
    return Converted(wire.data or {})


def _key(metadata: Metadata) -> str:
    return metadata.name


def watch_config_map(
    server: Server, namespace: str, name: str, emit: Callable[[Mapping[str, str] | None], None]
) -> Watch:
    """Follows one ConfigMap: its data whenever they change, or None while there is none.

    The watch is returned not yet started. While the API server cannot be reached nothing is
    emitted. Its account needs the rights get, list and watch of this name alone.
    """
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    kind = Kind("ConfigMap", path, WireConfigMap, _data, _key)

    def data_of(event: Event) -> None:
        match event:
            case Synced(_, objects):
                emit(objects.get(name))
            case Changed(_, _, data):
                emit(data)
            case Deleted():
                emit(None)
            case _:
                pass

    return Watch(server, kind, data_of, field_selector=f"metadata.name={name}")
