"""Who reaches whom: the kinds of way that a pod network has, measured one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import NamedTuple

import msgspec

from ovsnet import names
from ovsnet.sandbox.demo import probes
from ovsnet.sandbox.demo.application import Pod
from ovsnet.sandbox.demo.checks import Check
from ovsnet.sandbox.demo.probes import UNANSWERED

TRANSFER_BYTES = 4 << 20

_AT_ONCE = 6
_FAMILIES = (4, 6)


class Way(msgspec.Struct, frozen=True):
    """One way through the network, in one address family.

    `answers` is who must answer; `seen` the source address that it must see.
    """

    kind: str
    source: str
    destination: str
    family: int
    netns: Path
    mtu: int
    target: str
    port: int
    answers: str
    seen: str


class Result(msgspec.Struct, frozen=True):
    """What was seen on one way."""

    way: Way
    ping: probes.Ping
    full: probes.Ping
    larger: probes.Ping
    transfer: probes.Transfer
    answer: probes.Answer | None
    fault: str = ""

    @property
    def checks(self) -> tuple[Check, ...]:
        """What this way had to show."""
        way = self.way
        title = f"{way.kind}, IPv{way.family}"
        answer = self.answer
        return (
            Check(f"{title}: ping", self.ping.complete, _ping_text(self.ping)),
            Check(
                f"{title}: packets of {way.mtu} bytes pass whole",
                self.full.complete,
                _ping_text(self.full),
            ),
            Check(
                f"{title}: packets of {way.mtu + 1} bytes do not",
                self.full.complete and self.larger.received == 0,
                _ping_text(self.larger),
            ),
            Check(
                f"{title}: TCP transfer with the right checksum",
                self.transfer.intact,
                self.transfer.message or f"{self.transfer.size} bytes",
            ),
            Check(
                f"{title}: {way.answers} answers and sees {way.seen}",
                answer is not None and (answer.pod, answer.client) == (way.answers, way.seen),
                self.fault if answer is None else f"{answer.pod} answered, saw {answer.client}",
            ),
        )


def _ping_text(ping: probes.Ping) -> str:
    text = f"{ping.received} of {ping.sent} answers"
    return f"{text}; {ping.message}" if ping.message else text


class NodeSite(msgspec.Struct, frozen=True):
    """A node as the ways need it: its addresses and the gateway addresses of its pod ranges."""

    name: str
    netns: Path
    addresses: tuple[str, ...]
    gateways: tuple[str, ...]
    mtu: int


class OutsideSite(msgspec.Struct, frozen=True):
    """The host outside the cluster."""

    name: str
    addresses: tuple[str, ...]
    port: int


def gateways(pod_cidrs: Iterable[str]) -> tuple[str, ...]:
    """The gateway address of each of a node's pod ranges."""
    return tuple(str(ip_network(cidr)[names.GATEWAY_OFFSET]) for cidr in pod_cidrs)


def of_family(addresses: Iterable[str], family: int) -> str:
    """The first address of a family.

    Raises:
        ValueError: there is none.
    """
    for address in addresses:
        if ip_address(address).version == family:
            return address
    raise ValueError(f"no IPv{family} address")


def _first(pods: Iterable[Pod]) -> Pod:
    for pod in pods:
        return pod
    raise ValueError("the application has no pods on one node, on another, or of a node itself")


def cast_of(ordinary: Sequence[Pod]) -> tuple[Pod, Pod, Pod]:
    """A pod with a network of its own, one beside it and one on another node.

    Raises:
        ValueError: there are none such.
    """
    source = next((p for p in ordinary if any(o.node == p.node and o != p for o in ordinary)), None)
    if source is None:
        raise ValueError("the application has no two pods on one node")
    near = _first(p for p in ordinary if p.node == source.node and p != source)
    return source, near, _first(p for p in ordinary if p.node != source.node)


def ways(
    pods: Sequence[Pod], nodes: Sequence[NodeSite], outside: OutsideSite, pod_mtu: int
) -> Iterator[Way]:
    """One way of every kind, in both families.

    Raises:
        ValueError: the application has no pods for one of them.
    """
    site = {node.name: node for node in nodes}
    ordinary = [pod for pod in pods if not pod.host_network]
    hosts = [pod for pod in pods if pod.host_network]
    source, near, far = cast_of(ordinary)
    own_host = _first(p for p in hosts if p.node == source.node)
    far_host = _first(p for p in hosts if p.node != source.node)
    here = site[source.node]
    for family in _FAMILIES:

        def way(
            kind: str, target: Pod, seen: Iterable[str], to: str = "", family: int = family
        ) -> Way:
            return Way(
                kind=kind,
                source=source.text,
                destination=to or target.text,
                family=family,
                netns=source.netns,
                mtu=pod_mtu,
                target=of_family(target.addresses, family),
                port=target.port,
                answers=target.name,
                seen=of_family(seen, family),
            )

        yield way("pod to pod, same node", near, source.addresses)
        yield way("pod to pod, other node", far, source.addresses)
        yield msgspec.structs.replace(
            way("node to own pod", source, here.gateways),
            source=here.name,
            netns=here.netns,
            mtu=here.mtu,
        )
        yield way("pod to own node", own_host, source.addresses, own_host.node)
        yield way("pod to other node", far_host, here.addresses, far_host.node)
        yield msgspec.structs.replace(
            way("pod to outside", source, here.addresses),
            destination=outside.name,
            target=of_family(outside.addresses, family),
            port=outside.port,
            answers=outside.name,
        )


class _Pings(NamedTuple):
    ordinary: probes.Ping
    full: probes.Ping
    larger: probes.Ping


class _Exchange(NamedTuple):
    transfer: probes.Transfer
    answer: probes.Answer | None
    fault: str


def _ping(way: Way) -> _Pings:
    return _Pings(
        probes.ping(way.netns, way.target),
        probes.ping(way.netns, way.target, way.mtu),
        probes.ping(way.netns, way.target, way.mtu + 1, count=1),
    )


def _exchange(way: Way) -> _Exchange:
    answer: probes.Answer | None = None
    fault = ""
    try:
        answer = probes.who_answers(way.netns, way.target, way.port)
    except UNANSWERED as error:
        fault = str(error)
    transfer = probes.transfer(way.netns, way.target, way.port, TRANSFER_BYTES)
    return _Exchange(transfer, answer, fault)


def measure(found: Sequence[Way], show: Callable[[int], None]) -> list[Result]:
    """Measure several ways; `show` is told how many are done.

    Pings go side by side. Transfers come after them, one at a time: several at once fill the
    queues of a userspace switch, and then it is no fault of the network that a packet is lost.
    """
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        pings = list(pool.map(_ping, found))
    results = []
    for way, pinged in zip(found, pings, strict=True):
        exchange = _exchange(way)
        results.append(
            Result(
                way=way,
                ping=pinged.ordinary,
                full=pinged.full,
                larger=pinged.larger,
                transfer=exchange.transfer,
                answer=exchange.answer,
                fault=exchange.fault,
            )
        )
        show(len(results))
    return results


class Mesh(msgspec.Struct, frozen=True):
    """Every pod asked every other one who it is, in one family."""

    family: int
    pairs: int
    faults: tuple[str, ...]

    @property
    def check(self) -> Check:
        """That all of them reached all of them."""
        seen = f"{self.pairs - len(self.faults)} of {self.pairs} pairs"
        if self.faults:
            seen += f"; first: {self.faults[0]}"
        return Check(
            f"every pod reaches every pod, IPv{self.family}",
            bool(self.pairs) and not self.faults,
            seen,
        )


def _fault(source: Pod, target: Pod, family: int) -> str | None:
    """Why one pod does not reach another one as it should; None if it does."""
    address = of_family(target.addresses, family)
    pair = f"{source.text} to {target.text} ({address})"
    try:
        answer = probes.who_answers(source.netns, address, target.port)
    except UNANSWERED as error:
        return f"{pair}: {error}"
    wanted = (target.name, of_family(source.addresses, family))
    if (answer.pod, answer.client) != wanted:
        return f"{pair}: {answer.pod} answered and saw {answer.client}"
    return None


def mesh(pods: Sequence[Pod], show: Callable[[int], None]) -> list[Mesh]:
    """Let every pod with a network of its own ask every other one.

    `show` is told how many pods have done it.
    """
    ordinary = [pod for pod in pods if not pod.host_network]

    def ask_all(source: Pod) -> list[tuple[int, str | None]]:
        return [
            (family, _fault(source, target, family))
            for family in _FAMILIES
            for target in ordinary
            if target != source
        ]

    asked: list[tuple[int, str | None]] = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for done, found in enumerate(pool.map(ask_all, ordinary), 1):
            asked += found
            show(done)
    return [
        Mesh(
            family,
            sum(f == family for f, _ in asked),
            tuple(fault for f, fault in asked if f == family and fault is not None),
        )
        for family in _FAMILIES
    ]
