"""Namespaces (core/v1)."""

from __future__ import annotations

import msgspec

from ovsnet import model
from ovsnet.api.objects import Converted, Kind, Metadata, labels_of


class WireNamespace(msgspec.Struct, frozen=True):
    """A Namespace as the API has it."""

    metadata: Metadata


def namespace(wire: WireNamespace) -> Converted[model.Namespace]:
    """The model's value of a Namespace."""
    return Converted(model.Namespace(wire.metadata.name, labels_of(wire.metadata)))


def _key(metadata: Metadata) -> str:
    return metadata.name


NAMESPACE = Kind("Namespace", "/api/v1/namespaces", WireNamespace, namespace, _key)
