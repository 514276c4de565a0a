"""NetworkPolicies (networking.k8s.io/v1).

What cannot be understood allows nothing, and the policy isolates all the same. The smallest part
that stands for itself is left out: a peer, or a port. An unknown field of a rule may mean anything
for that rule, which then allows nothing; one of `spec` may mean anything for all of its rules.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from ovsnet import model
from ovsnet.api.cidr import cidr
from ovsnet.api.members import PROTOCOLS, entries, members, one_of, shown
from ovsnet.api.objects import Converted, Kind, Metadata, missing
from ovsnet.api.selector import selector
from ovsnet.model import (
    Direction,
    Fault,
    IPBlock,
    IPNetwork,
    PolicyPeer,
    PolicyPort,
    PolicyRef,
    PolicyRule,
    Protocol,
    Selector,
)

_SPEC: Final = ("podSelector", "policyTypes", "ingress", "egress")
_PEERS: Final = {Direction.INGRESS: "from", Direction.EGRESS: "to"}
_RULE: Final = {direction: (name, "ports") for direction, name in _PEERS.items()}
_PEER: Final = ("podSelector", "namespaceSelector", "ipBlock")
_PORT: Final = ("protocol", "port", "endPort")
_BLOCK: Final = ("cidr", "except")
_DIRECTIONS: Final = {str(direction): direction for direction in Direction}
_PORT_NAME: Final = re.compile(r"(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(?:-[a-z0-9]+)*")
_NOTHING: Final = PolicyRule((), ())
_UNREADABLE: Final[Mapping[str, Any]] = {"policyTypes": list(_DIRECTIONS)}

_decode = msgspec.json.Decoder().decode

PartT = TypeVar("PartT")


class WireNetworkPolicy(msgspec.Struct, frozen=True):
    """A NetworkPolicy as the API has it.

    `spec` is not decoded into structs: they pass over what they have no field for.
    """

    metadata: Metadata
    spec: msgspec.Raw = msgspec.Raw(b"null")


def networkpolicy(wire: WireNetworkPolicy) -> Converted[model.NetworkPolicy]:
    """The model's value of a NetworkPolicy; none without a namespace and a name.

    What is wrong with `spec` is in the value's `faults`. If its pods cannot be told, it isolates
    its whole namespace and allows nothing; if its types cannot be told, it isolates both ways.
    """
    metadata = wire.metadata
    problem = missing(namespace=metadata.namespace, name=metadata.name)
    if problem is not None:
        return Converted(None, (problem,))
    faults: list[Fault] = []
    spec = _spec(wire.spec, faults)
    pods = _pods(spec.get("podSelector"), faults)
    understood = not faults
    directions = _directions(spec, faults)
    ingress = _rules(spec, Direction.INGRESS, faults)
    egress = _rules(spec, Direction.EGRESS, faults)
    return Converted(
        model.NetworkPolicy(
            namespace=metadata.namespace,
            name=metadata.name,
            uid=metadata.uid,
            pods=pods,
            directions=directions,
            ingress=ingress if understood else (),
            egress=egress if understood else (),
            faults=tuple(faults),
        )
    )


def _spec(raw: msgspec.Raw, faults: list[Fault]) -> Mapping[str, Any]:
    try:
        value = _decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        faults.append(Fault("spec", f"cannot be read: {error}"))
        return _UNREADABLE
    fields = members({} if value is None else value, "spec", _SPEC, faults)
    return _UNREADABLE if fields is None else fields


def _pods(value: object, faults: list[Fault]) -> Selector:
    if value is None:
        return Selector()
    before = len(faults)
    found = selector(value, "spec.podSelector", faults)
    return found if len(faults) == before else Selector()


def _directions(spec: Mapping[str, Any], faults: list[Fault]) -> frozenset[Direction]:
    """The directions of `policyTypes`; without it those that the API defaults to."""
    before = len(faults)
    found: set[Direction] = set()
    for i, text in enumerate(entries(spec.get("policyTypes"), "spec.policyTypes", faults)):
        direction = one_of(text, _DIRECTIONS, f"spec.policyTypes[{i}]", faults)
        if direction is not None:
            found.add(direction)
    if len(faults) > before:
        return frozenset(Direction)
    if not found:
        found.add(Direction.INGRESS)
        if spec.get("egress") not in (None, []):
            found.add(Direction.EGRESS)
    return frozenset(found)


def _rules(
    spec: Mapping[str, Any], direction: Direction, faults: list[Fault]
) -> tuple[PolicyRule, ...]:
    name = direction.lower()
    path = f"spec.{name}"
    found = entries(spec.get(name), path, faults)
    return tuple([_rule(r, f"{path}[{i}]", direction, faults) for i, r in enumerate(found)])


def _rule(value: object, path: str, direction: Direction, faults: list[Fault]) -> PolicyRule:
    before = len(faults)
    fields = members(value, path, _RULE[direction], faults)
    if fields is None:
        return _NOTHING
    understood = len(faults) == before
    name = _PEERS[direction]
    peers = _parts(fields.get(name), f"{path}.{name}", _peer, faults)
    ports = _parts(fields.get("ports"), f"{path}.ports", _port, faults)
    return PolicyRule(peers, ports) if understood else _NOTHING


def _parts(
    value: object,
    path: str,
    read: Callable[[object, str, list[Fault]], PartT | None],
    faults: list[Fault],
) -> tuple[PartT, ...] | None:
    """The parts of a list that are understood; None, which is any, if it is absent or empty."""
    if value is None or value == []:
        return None
    items = entries(value, path, faults)
    parts = [read(item, f"{path}[{i}]", faults) for i, item in enumerate(items)]
    return tuple([part for part in parts if part is not None])


def _peer(value: object, path: str, faults: list[Fault]) -> PolicyPeer | None:
    before = len(faults)
    fields = members(value, path, _PEER, faults)
    if fields is None:
        return None
    pods, namespaces, block = (fields.get(name) for name in _PEER)
    selecting = pods is not None or namespaces is not None
    if block is not None and selecting:
        faults.append(Fault(path, "expected ipBlock alone, without selectors"))
    if block is None and not selecting and len(faults) == before:
        faults.append(Fault(path, f"expected one of {', '.join(_PEER)}"))
    peer = PolicyPeer(
        None if pods is None else selector(pods, f"{path}.podSelector", faults),
        None if namespaces is None else selector(namespaces, f"{path}.namespaceSelector", faults),
        None if block is None else _block(block, f"{path}.ipBlock", faults),
    )
    return peer if len(faults) == before else None


def _block(value: object, path: str, faults: list[Fault]) -> IPBlock | None:
    fields = members(value, path, _BLOCK, faults)
    if fields is None:
        return None
    whole = cidr(fields.get("cidr", ""), f"{path}.cidr", faults)
    exceptions: list[IPNetwork] = []
    for i, text in enumerate(entries(fields.get("except"), f"{path}.except", faults)):
        place = f"{path}.except[{i}]"
        exception = cidr(text, place, faults)
        if whole is None or exception is None:
            continue
        if not _strictly_within(exception, whole):
            faults.append(Fault(place, f"{shown(text)}: expected a part of {whole}"))
        exceptions.append(exception)
    return None if whole is None else IPBlock(whole, tuple(exceptions))


def _strictly_within(inner: IPNetwork, outer: IPNetwork) -> bool:
    return (
        inner.version == outer.version
        and inner.prefixlen > outer.prefixlen
        and inner.network_address in outer
    )


def _port(value: object, path: str, faults: list[Fault]) -> PolicyPort | None:
    before = len(faults)
    fields = members(value, path, _PORT, faults)
    if fields is None:
        return None
    name = fields.get("protocol")
    place = f"{path}.protocol"
    protocol = Protocol.TCP if name is None else one_of(name, PROTOCOLS, place, faults)
    port = fields.get("port")
    if port is not None and not _is_number(port) and not _is_name(port):
        expected = "expected a number from 1 to 65535 or the name of a port"
        faults.append(Fault(f"{path}.port", f"{shown(port)}: {expected}"))
    end = fields.get("endPort")
    if end is not None and not (_is_number(end) and _is_number(port) and port <= end):
        expected = "expected a number from port, which must be a number, to 65535"
        faults.append(Fault(f"{path}.endPort", f"{shown(end)}: {expected}"))
    if len(faults) > before or protocol is None:
        return None
    return PolicyPort(protocol, port, end)


def _is_number(port: object) -> bool:
    return type(port) is int and 0 < port < 65536


def _is_name(port: object) -> bool:
    return isinstance(port, str) and _PORT_NAME.fullmatch(port) is not None


def _key(metadata: Metadata) -> PolicyRef:
    return PolicyRef(metadata.namespace, metadata.name)


NETWORK_POLICY = Kind(
    "NetworkPolicy",
    "/apis/networking.k8s.io/v1/networkpolicies",
    WireNetworkPolicy,
    networkpolicy,
    _key,
)
