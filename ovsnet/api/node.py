"""Nodes (core/v1)."""

from __future__ import annotations

import msgspec

from ovsnet import model
from ovsnet.api.objects import (
    Converted,
    Kind,
    Metadata,
    Problem,
    address,
    labels_of,
    network,
    one_of_each_family,
)


class WireNodeSpec(msgspec.Struct, frozen=True):
    """The part of NodeSpec that is needed."""

    pod_cidr: str = msgspec.field(default="", name="podCIDR")
    pod_cidrs: list[str] | None = msgspec.field(default=None, name="podCIDRs")


class WireNodeAddress(msgspec.Struct, frozen=True):
    """One of a node's addresses; its type may also be Hostname."""

    type: str = ""
    address: str = ""


class WireNodeStatus(msgspec.Struct, frozen=True):
    """The part of NodeStatus that is needed."""

    addresses: list[WireNodeAddress] | None = None


class WireNode(msgspec.Struct, frozen=True):
    """A Node as the API has it."""

    metadata: Metadata
    spec: WireNodeSpec = WireNodeSpec()
    status: WireNodeStatus = WireNodeStatus()


_SMALLEST_RANGE = 8
"""Addresses of a pod range at least: some of them belong to the node itself."""


def node(wire: WireNode) -> Converted[model.Node]:
    """The model's value of a Node.

    Its addresses are those of type InternalIP, or if it has none, of ExternalIP; the first of
    each family. A range that cannot be read, or is too small, is left out: the node then has no
    pods there.
    """
    problems: list[Problem] = []
    value = model.Node(
        name=wire.metadata.name,
        uid=wire.metadata.uid,
        created=wire.metadata.creation_timestamp,
        labels=labels_of(wire.metadata),
        pod_cidrs=_pod_cidrs(wire.spec, problems),
        addresses=_addresses(wire.status, problems),
    )
    return Converted(value, tuple(problems))


def _pod_cidrs(spec: WireNodeSpec, problems: list[Problem]) -> tuple[model.IPNetwork, ...]:
    texts = [(f"spec.podCIDRs[{i}]", text) for i, text in enumerate(spec.pod_cidrs or ())]
    if not texts and spec.pod_cidr:
        texts = [("spec.podCIDR", spec.pod_cidr)]
    found: list[tuple[str, model.IPNetwork]] = []
    for field, text in texts:
        cidr = network(text, field, problems)
        if cidr is None:
            continue
        if cidr.num_addresses < _SMALLEST_RANGE:
            expected = f"expected a range of {_SMALLEST_RANGE} addresses or more"
            problems.append(Problem(field, f"{text}: {expected}"))
            continue
        found.append((field, cidr))
    return one_of_each_family(found, problems)


def _addresses(status: WireNodeStatus, problems: list[Problem]) -> tuple[model.IPAddress, ...]:
    for wanted in ("InternalIP", "ExternalIP"):
        found: list[tuple[str, model.IPAddress]] = []
        for i, entry in enumerate(status.addresses or ()):
            field = f"status.addresses[{i}].address"
            if entry.type == wanted:
                value = address(entry.address, field, problems)
                if value is not None:
                    found.append((field, value))
        if found:
            return one_of_each_family(found, None)
    return ()


def _key(metadata: Metadata) -> str:
    return metadata.name


NODE = Kind("Node", "/api/v1/nodes", WireNode, node, _key)
