"""The ends of a connection that somebody asks about, as people name them: a pod, a node, a service,
an address.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from ipaddress import ip_network
from typing import Final

import msgspec

from ovsnet.controller.inquiry.world import Snapshot
from ovsnet.flows.node import gateway_of
from ovsnet.flows.pod import Endpoint
from ovsnet.flows.serving import legs
from ovsnet.model import IPAddress, Node, Pod, PodRef, Service, ServiceRef, parse_address

EXPECTED: Final = "expected NAMESPACE/POD, node/NAME, service/NAMESPACE/NAME or an IP address"
_NODE_PREFIX: Final = "node/"
_SERVICE_PREFIX: Final = "service/"
_MOST_NAMES: Final = 5


class UnknownEndError(ValueError):
    """There is nothing of this name, or it is none; the message says what it could have meant."""


class End(msgspec.Struct, frozen=True):
    """One end.

    `pod` is the pod of the network that it is, `endpoint` its port on the switch of `node`, None
    while the controller knows of none. Without a pod it is the node itself, or, without a node
    too, a `service` by its cluster addresses, or somebody outside of the cluster. It has at most
    one address of each family, and none if nobody can reach it; `remarks` say what is to be known
    of it.
    """

    name: str
    pod: PodRef | None = None
    node: str = ""
    endpoint: Endpoint | None = None
    addresses: tuple[IPAddress, ...] = ()
    remarks: tuple[str, ...] = ()
    service: ServiceRef | None = None

    def address(self, family: int) -> IPAddress | None:
        """Its address of an address family (4 or 6)."""
        return next((a for a in self.addresses if a.version == family), None)


def resolve(seen: Snapshot, text: str) -> End:
    """The end that a text names.

    Raises:
        UnknownEndError: it names nothing that is there.
    """
    if text.startswith(_NODE_PREFIX):
        return _node_end(seen, text, text.removeprefix(_NODE_PREFIX))
    namespace, slash, name = text.partition("/")
    if text.startswith(_SERVICE_PREFIX) and "/" in name:
        return _service_end(seen, text, ServiceRef(*name.split("/", 1)))
    if slash:
        return _pod_end(seen, text, PodRef(namespace, name))
    try:
        address = parse_address(text)
    except ValueError:
        places = [str(ref) for ref in seen.pods if ref.name == text]
        places += [_NODE_PREFIX + name for name in seen.nodes if name == text]
        places += [f"{_SERVICE_PREFIX}{ref}" for ref in seen.services if ref.name == text]
        raise UnknownEndError(f"{text!r}: {EXPECTED}{_meant(places)}") from None
    return at_address(seen, text, address)


def _node_end(seen: Snapshot, text: str, name: str) -> End:
    view = seen.nodes.get(name)
    if view is None:
        near = (_NODE_PREFIX + found for found in _near(name, seen.nodes))
        raise UnknownEndError(f"there is no node {name!r}{_meant(near)}")
    return _of_node(text, view.node)


def _of_node(text: str, node: Node, remark: str = "") -> End:
    gateway = gateway_of(node)
    every = (*(gateway.addresses if gateway else ()), *node.addresses)
    first = {address.version: address for address in reversed(every)}
    addresses = tuple(first[version] for version in sorted(first))
    remarks = [remark] if remark else []
    if gateway is None:
        remarks.append(f"{node.name} has no pod range yet")
    return End(text, None, node.name, None, addresses, tuple(remarks))


def _service_end(seen: Snapshot, text: str, ref: ServiceRef) -> End:
    service = seen.services.get(ref)
    if service is None:
        elsewhere = [other for other in seen.services if other.name == ref.name]
        here = [other.name for other in seen.services if other.namespace == ref.namespace]
        near = [*(ServiceRef(ref.namespace, name) for name in _near(ref.name, here)), *elsewhere]
        meant = _meant(f"{_SERVICE_PREFIX}{other}" for other in near)
        raise UnknownEndError(f"there is no service {str(ref)!r}{meant}")
    found = {each.version: each for each in reversed(service.addresses)}
    addresses = tuple(found[version] for version in sorted(found) if version in service.families)
    why = f"service {ref} has no address: names stand for its endpoints, and DNS says which"
    return End(text, addresses=addresses, remarks=() if addresses else (why,), service=ref)


def _pod_end(seen: Snapshot, text: str, ref: PodRef) -> End:
    pod = seen.pods.get(ref)
    if pod is None:
        raise UnknownEndError(_no_such_pod(seen, text, ref))
    if pod.terminated:
        return End(text, ref, pod.node, remarks=(f"{ref} has ended ({pod.phase})",))
    view = seen.nodes.get(pod.node)
    if view is None:
        where = f"its node {pod.node} is not known" if pod.node else "it is not on a node yet"
        return End(text, ref, pod.node, remarks=(f"{ref} has no address: {where}",))
    if pod.host_network:
        remark = f"{ref} uses the network of {pod.node}: policies see the node in its place"
        return _of_node(text, view.node, remark)
    addresses = seen.addresses[ref]
    if not addresses:
        return End(text, ref, pod.node, remarks=(_why_no_address(seen, pod),))
    endpoint = view.beliefs.endpoints.get(ref)
    remarks = []
    if endpoint is None:
        remarks.append(
            f"{ref}: the switch of {pod.node} has not told its ports yet; "
            "its address is the one that kubelet reported"
        )
    return End(text, ref, pod.node, endpoint, addresses, tuple(remarks))


def _why_no_address(seen: Snapshot, pod: Pod) -> str:
    view = seen.nodes[pod.node]
    for refusal in view.beliefs.refusals:
        if pod.ref in refusal.pods:
            why = f"its port {refusal.port.name} on {pod.node} is refused: {refusal.reason}"
            return f"{pod.ref} has no address: {why}"
    if view.seen:
        return f"{pod.ref} has no address: the switch of {pod.node} has no port for it"
    return f"{pod.ref} has no address: {pod.node} has told neither its ports nor an address of it"


def at_address(seen: Snapshot, text: str, address: IPAddress) -> End:
    """Who has an address that somebody calls by a name.

    Raises:
        UnknownEndError: nobody can have it.
    """
    if _is_nobodys(address):
        raise UnknownEndError(f"{text}: nobody can have this address on the network")
    for ref, addresses in seen.addresses.items():
        if address in addresses:
            pod = _pod_end(seen, text, ref)
            said = (f"{text} is {ref}", *pod.remarks)
            return msgspec.structs.replace(pod, addresses=(address,), remarks=said)
    for view in seen.nodes.values():
        gateway = gateway_of(view.node)
        if address in view.node.addresses or (gateway and address in gateway.addresses):
            name = view.node.name
            return End(text, None, name, None, (address,), (f"{text} is the node {name}",))
        if any(address in network for network in view.node.pod_cidrs):
            return End(text, None, view.node.name, remarks=(_nobodys_here(view.node, address),))
    service = next((ref for ref, each in seen.services.items() if _has(each, address)), None)
    said = () if service is None else (f"{text} is an address of service {service}",)
    return End(text, addresses=(address,), remarks=said, service=service)


def _has(service: Service, address: IPAddress) -> bool:
    return address in (*service.addresses, *service.load_balancer, *service.external)


def _nobodys_here(node: Node, address: IPAddress) -> str:
    """What an address of a node's pod range is that neither a pod nor the node answers to."""
    if any(address == leg.service for leg in legs(node)):
        calls = "some connections to services seem to come from it, and nobody answers to it"
        return f"{address} is the service address of {node.name}: {calls}"
    return f"{address} is of the pod range of {node.name}, and no pod has it"


def _is_nobodys(address: IPAddress) -> bool:
    return (
        address.is_multicast
        or address.is_loopback
        or address.is_unspecified
        or (address.version == 6 and address.is_link_local)
        or address == parse_address("255.255.255.255")
    )


def _no_such_pod(seen: Snapshot, text: str, ref: PodRef) -> str:
    if _is_network(text):
        return f"{text} is a network: name one address of it"
    elsewhere = [other for other in seen.pods if other.name == ref.name]
    here = [other.name for other in seen.pods if other.namespace == ref.namespace]
    if not here and ref.namespace not in seen.namespaces:
        near = [*map(str, elsewhere), *_near(ref.namespace, seen.namespaces)]
        return f"there is no namespace {ref.namespace!r}{_meant(near)}"
    begun = sorted(name for name in here if name.startswith(ref.name))
    names = dict.fromkeys((*begun, *_near(ref.name, here)))
    near = [*(str(PodRef(ref.namespace, name)) for name in names), *map(str, elsewhere)]
    return f"there is no pod {ref.name!r} in namespace {ref.namespace!r}{_meant(near)}"


def _is_network(text: str) -> bool:
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _near(name: str, names: Iterable[str]) -> list[str]:
    """The names that somebody may have meant, the most likely first."""
    return difflib.get_close_matches(name, list(names), _MOST_NAMES)


def _meant(near: Iterable[str]) -> str:
    found = list(near)[:_MOST_NAMES]
    return f"; did you mean {' or '.join(found)}?" if found else ""
