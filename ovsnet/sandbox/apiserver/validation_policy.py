"""What NetworkPolicies must be (networking.k8s.io/v1)."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

from ovsnet.sandbox.apiserver.causes import forbidden, required, wrong
from ovsnet.sandbox.apiserver.kinds import Object
from ovsnet.sandbox.apiserver.status import Cause
from ovsnet.sandbox.apiserver.validation_fields import (
    PROTOCOLS,
    label_selector,
    network,
    one_of,
    port_name,
    port_number,
)

_TYPES = ("Ingress", "Egress")


def network_policy(obj: Object) -> Iterator[Cause]:
    """What is wrong with a NetworkPolicy."""
    spec = obj["spec"]
    yield from label_selector(spec.get("podSelector"), "spec.podSelector")
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        for index, rule in enumerate(spec.get(direction, ())):
            here = f"spec.{direction}[{index}]"
            for position, part in enumerate(rule.get("ports", ())):
                yield from _port(part, f"{here}.ports[{position}]")
            for position, peer in enumerate(rule.get(peers, ())):
                yield from _peer(peer, f"{here}.{peers}[{position}]")
    types = spec.get("policyTypes", ())
    if len(types) > len(_TYPES):
        yield wrong("spec.policyTypes", types, "may not specify more than two policyTypes")
        return
    for index, name in enumerate(types):
        yield from one_of(f"spec.policyTypes[{index}]", name, _TYPES)


def _port(part: Object, field: str) -> Iterator[Cause]:
    yield from one_of(f"{field}.protocol", part.get("protocol"), PROTOCOLS)
    start, end = part.get("port"), part.get("endPort")
    if isinstance(start, str):
        yield from port_name(f"{field}.port", start)
    else:
        yield from port_number(f"{field}.port", start)
    if end is None:
        return
    here = f"{field}.endPort"
    if not isinstance(start, int):
        yield wrong(here, end, "may not be specified when `port` is not a number")
        return
    if end < start:
        yield wrong(here, end, "must be greater than or equal to `port`")
    yield from port_number(here, end)


def _peer(peer: Object, field: str) -> Iterator[Cause]:
    for name in ("podSelector", "namespaceSelector"):
        yield from label_selector(peer.get(name), f"{field}.{name}")
    if "ipBlock" in peer:
        yield from _block(peer["ipBlock"], f"{field}.ipBlock")
    if not peer:
        yield required(field, "must specify a peer")
    elif "ipBlock" in peer and len(peer) > 1:
        yield forbidden(field, "may not specify both ipBlock and another peer")


def _block(block: Object, field: str) -> Iterator[Cause]:
    outer = block.get("cidr", "")
    if not outer:
        yield required(f"{field}.cidr")
        return
    problems = list(network(f"{field}.cidr", outer))
    yield from problems
    if problems:
        return
    for index, inner in enumerate(block.get("except", ())):
        here = f"{field}.except[{index}]"
        causes = list(network(here, inner))
        yield from causes
        if not causes and not _strictly_within(inner, outer):
            yield wrong(here, inner, "must be a strict subset of `cidr`")


def _strictly_within(inner: str, outer: str) -> bool:
    small, large = ip_network(inner, strict=False), ip_network(outer, strict=False)
    return (
        small.version == large.version
        and small.prefixlen > large.prefixlen
        and small.network_address in large
    )
