"""What a switch holds, and what it should hold: both computed by reading, neither by trusting.

The flows that a switch should have are computed from scratch, from the API server's objects and the
switch's ports, by a `Network` that has seen nothing else.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from lab_nodes import CommandError
from places import wait_for
from sandbox_lab import Lab

from ovsnet.api import (
    ENDPOINT_SLICE,
    KINDS,
    NAMESPACE,
    NETWORK_POLICY,
    NODE,
    POD,
    SERVICE,
    AnyKind,
)
from ovsnet.api.decode import read_page
from ovsnet.controller.belief import Port
from ovsnet.controller.network import Network
from ovsnet.controller.openflow.encode import fingerprint
from ovsnet.flows.flow import Flow
from ovsnet.flows.learnt import LEARNT_COOKIE
from ovsnet.flows.stamp import STAMP_KEY, serial_of, stamp_flow
from ovsnet.flows.text import ParsedFlow, parse_flow
from ovsnet.names import Table
from ovsnet.policy.world import World
from ovsnet.sandbox.plan import SERVICE_CIDRS

_SERVICE_RANGES = tuple(map(ip_network, SERVICE_CIDRS))
_PORT = re.compile(r"^ (\d+|LOCAL)\(([^)]+)\): addr:([0-9a-f:]{17})", re.MULTILINE)
_LOCAL = 0xFFFFFFFE
_DUMP = ("ovs-ofctl", "-O", "OpenFlow15", "--names", "dump-flows")


def ports(lab: Lab, node: str) -> frozenset[Port]:
    """A switch's ports as OpenFlow describes them."""
    text = lab.ovs(node, "ovs-ofctl", "-O", "OpenFlow15", "dump-ports-desc", "br-int")
    return frozenset(
        Port(_LOCAL if number == "LOCAL" else int(number), name, mac)
        for number, name, mac in _PORT.findall(text)
    )


def dump(lab: Lab, node: str, strange: list[str] | None = None) -> list[ParsedFlow]:
    """A switch's flows, as an operator sees them.

    Lines that cannot be a flow of ours, for their table say, are appended to `strange`.
    """
    numbers = {port.name: port.ofport for port in ports(lab, node)}
    text = lab.ovs(node, *_DUMP, "br-int")
    flows = []
    for line in text.splitlines():
        if "actions=" not in line:
            continue
        try:
            flows.append(parse_flow(line, numbers))
        except ValueError:
            if strange is None:
                raise
            strange.append(line)
    return flows


@dataclass(frozen=True)
class Comparison:
    """How the flows of a switch differ from those computed from scratch."""

    missing: frozenset[Flow]
    unexpected: frozenset[Flow]
    foreign: tuple[str, ...]
    twice: tuple[Flow, ...]

    @property
    def equal(self) -> bool:
        return not (self.missing or self.unexpected or self.foreign or self.twice)


def objects(lab: Lab) -> dict[AnyKind, list[Any]]:
    """All objects of all kinds, as the API server has them."""
    found = {}
    for kind in KINDS:
        read = read_page(kind, lab.api_bytes("GET", kind.path)).objects
        found[kind] = [each.value for each in read if each.value is not None]
    return found


def world(lab: Lab) -> World:
    """Everything that decides about traffic, as the API server has it."""
    found = objects(lab)
    return World.of(found[NAMESPACE], found[POD], found[NODE], found[NETWORK_POLICY])


def network(lab: Lab) -> Network:
    """A network that was told of all objects once, and of the ports of the lab's switches."""
    made, told = Network(fingerprint, service_ranges=_SERVICE_RANGES), objects(lab)
    made.set_nodes(told[NODE])
    made.set_namespaces(told[NAMESPACE])
    made.set_policies(told[NETWORK_POLICY])
    made.set_pods(told[POD])
    made.set_services(told[SERVICE])
    made.set_slices(told[ENDPOINT_SLICE])
    for name in made.nodes.keys() & set(lab.nodes):
        made.set_ports(name, ports(lab, name))
    return made


def desired(lab: Lab) -> dict[str, frozenset[Flow]]:
    """Every node's flows, stamp included, computed from the API's objects and switches' ports."""
    made = network(lab)
    ledgers = {name: made.ledger(name) for name in made.nodes if name in lab.nodes}
    return {
        name: frozenset(ledger.flows.values()) | {stamp_flow(ledger.digest)}
        for name, ledger in ledgers.items()
    }


def _without_serial(flow: Flow) -> Flow:
    """The stamp without the number that every stamp bears; any other flow as it is."""
    return flow if serial_of(flow) is None else stamp_flow(flow.cookie)


def compare(lab: Lab, node: str, wanted: frozenset[Flow]) -> Comparison:
    """How a switch's flows differ from these; those that it has learnt itself are left out."""
    strange: list[str] = []
    parsed = [each for each in dump(lab, node, strange) if each.flow.cookie != LEARNT_COOKIE]
    counted = Counter(_without_serial(each.flow) for each in parsed)
    return Comparison(
        wanted - counted.keys(),
        frozenset(counted.keys() - wanted),
        (*strange, *(word for each in parsed for word in each.foreign)),
        tuple(flow for flow, count in counted.items() if count > 1),
    )


def expect_exact_flows(lab: Lab, seconds: float = 20) -> None:
    """Every switch has the flows computed from scratch, and the stamp that says so."""
    found: dict[str, Comparison] = {}

    def all_equal() -> bool:
        found.clear()
        try:
            found.update((n, compare(lab, n, flows)) for n, flows in desired(lab).items())
        except CommandError:
            # A switch that has just been started does not answer yet.
            return False
        return all(each.equal for each in found.values())

    try:
        wait_for(all_equal, "the flows of all switches to be those computed from scratch", seconds)
    except AssertionError as error:
        wrong = {name: each for name, each in found.items() if not each.equal}
        raise AssertionError(f"{error}: {wrong}") from None


def stamp(lab: Lab, node: str) -> int | None:
    """The digest that a switch carries."""
    lines = lab.ovs(node, *_DUMP, "br-int", f"table={Table.STAMP:d}").splitlines()
    flows = [parse_flow(line, {}).flow for line in lines if "actions=" in line]
    cookies = [flow.cookie for flow in flows if flow.key == STAMP_KEY]
    return cookies[0] if len(cookies) == 1 else None


def ages(lab: Lab, node: str) -> dict[Flow, float]:
    """For how many seconds each flow has been in the switch."""
    return {each.flow: each.duration or 0.0 for each in dump(lab, node)}
