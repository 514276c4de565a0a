"""Addresses and ports of Services: cluster IPs of both families, node ports.

The rules are those of the Service reference and of "IPv4/IPv6 dual-stack": which families a
service has, which of its fields a server fills in, and which it takes back when the type changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import chain

from ovsnet.sandbox.apiserver.causes import required, wrong
from ovsnet.sandbox.apiserver.kinds import SERVICE, Kind, Object
from ovsnet.sandbox.apiserver.service_fields import (
    gets_node_ports,
    has_addresses,
    is_headless,
    may_have_node_ports,
    needs_health_check,
)
from ovsnet.sandbox.apiserver.status import ApiError, Cause
from ovsnet.sandbox.apiserver.store import Change, Stored
from ovsnet.sandbox.apiserver.validation_fields import parsed_address

NODE_PORTS = range(30000, 32768)
"""Ports that a node keeps for services (kube-apiserver's default)."""

_STATIC_BAND = 256
_STATIC_PORTS = 86
"""So many of the first ports are left for those who ask for one by name, as long as there are
others (KEP-3668)."""

_ALLOCATED = "provided port is already allocated"
_DUAL = ("PreferDualStack", "RequireDualStack")
_FAMILIES = ("IPv4", "IPv6")

ServiceRange = IPv4Network | IPv6Network


def _family(version: int) -> str:
    return f"IPv{version}"


def _read(address: str) -> IPv4Address | IPv6Address:
    """An address that has been found to be one."""
    found = parsed_address(address)
    if found is None:
        raise ValueError(f"{address!r} is no address")
    return found


class Allocations:
    """Which addresses and node ports the stored services hold. Follows the store."""

    def __init__(self) -> None:
        self._addresses: Counter[str] = Counter()
        self._ports: Counter[int] = Counter()
        self._next: dict[ServiceRange, int] = {}

    def observe(self, kind: Kind, change: Change) -> None:
        """Take note of a write."""
        if kind is not SERVICE:
            return
        if change.before is not None:
            self._count(change.before, -1)
        if not change.deleted:
            self._count(change.after, 1)

    def _count(self, stored: Stored, step: int) -> None:
        spec = stored.decode()["spec"]
        for address in spec.get("clusterIPs", ()):
            if address != "None":
                self._addresses[str(_read(address))] += step
        ports = [p.get("nodePort") for p in spec.get("ports", ())]
        for port in {*ports, spec.get("healthCheckNodePort")} - {None}:
            self._ports[port] += step

    def holds_address(self, address: str) -> bool:
        """Whether an address is taken."""
        return self._addresses[address] > 0

    def holds_port(self, port: int) -> bool:
        """Whether a node port is taken."""
        return self._ports[port] > 0

    def free_address(self, network: ServiceRange) -> str | None:
        """A free address of a range, or None.

        The first addresses are left for those who ask for one by name, as long as there are
        others (the first of all is the API server's own). The search goes on where the last one
        ended: ten thousand services would take a minute otherwise.
        """
        size = network.num_addresses
        last = size - 1 if network.version == 4 else size
        band = min(max(16, size // 16), _STATIC_BAND)
        start = self._next.get(network, band)
        for offset in chain(range(start, last), range(band, start), range(1, min(band, last))):
            address = str(network[offset])
            if not self.holds_address(address):
                self._next[network] = max(offset + 1, band)
                return address
        return None

    def free_port(self, taken: set[int]) -> int | None:
        """A node port that neither a stored service nor `taken` holds, or None."""
        ports = chain(NODE_PORTS[_STATIC_PORTS:], NODE_PORTS[:_STATIC_PORTS])
        return next((p for p in ports if not self.holds_port(p) and p not in taken), None)


@dataclass
class _Preparation:
    """One service on its way into the store."""

    service: Object
    old: Object | None
    ranges: Mapping[str, ServiceRange]
    allocations: Allocations
    causes: list[Cause] = field(default_factory=list)

    @property
    def spec(self) -> Object:
        spec: Object = self.service["spec"]
        return spec

    @property
    def old_spec(self) -> Object:
        return self.old["spec"] if self.old is not None else {}

    def run(self) -> list[Cause]:
        if has_addresses(self.spec):
            self._families()
            if not self.causes:
                self._addresses()
        if not self.causes and may_have_node_ports(self.spec):
            self._ports()
        return self.causes

    def _families(self) -> None:
        """Families and their policy, from what is given, from the addresses, from what was."""
        spec, old = self.spec, self.old_spec
        selectorless = is_headless(spec) and not spec.get("selector")
        policy = spec.get("ipFamilyPolicy") or old.get("ipFamilyPolicy")
        if policy is None:
            policy = "RequireDualStack" if selectorless else "SingleStack"
        given, families = [*spec.get("clusterIPs", ())], [*spec.get("ipFamilies", ())]
        known, before = old.get("clusterIPs", []), old.get("ipFamilies", [])
        if policy == "SingleStack":
            # Going back to one family gives the second address back.
            given = given[:1] if given == known else given
            families = families[:1] if families == before else families
        self._check_policy(policy, ("cluster IP", given, known), ("IP family", families, before))
        for position, text in enumerate(given[len(families) :], len(families)):
            if text == "None":
                break
            family = _family(_read(text).version)
            if family in self.ranges:
                families.append(family)
            else:
                message = f"{family} is not configured on this cluster"
                self.causes.append(wrong(f"spec.clusterIPs[{position}]", given, message))
        if self.causes:
            return
        families = families or list(self.ranges)[:1]
        every = _FAMILIES if selectorless else tuple(self.ranges)
        if not selectorless:
            self._check_configured(policy, families)
        if policy in _DUAL:
            families += [family for family in every if family not in families]
        spec["ipFamilies"], spec["ipFamilyPolicy"] = families, policy
        if given:
            spec["clusterIPs"] = given

    def _check_policy(self, policy: str, *lists: tuple[str, list[str], list[str]]) -> None:
        for what, given, before in lists:
            plural = what.replace("family", "families") if "family" in what else f"{what}s"
            message = ""
            if policy == "SingleStack" and len(given) > 1:
                message = (
                    "must be 'RequireDualStack' or 'PreferDualStack' when multiple "
                    f"{plural} are specified"
                )
            elif policy in _DUAL and 0 < len(given) < len(before):
                message = f"must be 'SingleStack' to release the secondary {what}"
            if message:
                self.causes.append(wrong("spec.ipFamilyPolicy", policy, message))

    def _check_configured(self, policy: str, families: list[str]) -> None:
        if policy == "RequireDualStack" and len(self.ranges) < len(_FAMILIES):
            message = "this cluster is not configured for dual-stack services"
            self.causes.append(wrong("spec.ipFamilyPolicy", policy, message))
        for position, family in enumerate(families):
            if family not in self.ranges:
                message = "not configured on this cluster"
                self.causes.append(wrong(f"spec.ipFamilies[{position}]", family, message))

    def _addresses(self) -> None:
        spec = self.spec
        if is_headless(spec):
            return
        given = spec.get("clusterIPs", [])
        addresses = []
        for position, family in enumerate(spec["ipFamilies"]):
            network = self.ranges[family]
            if position < len(given):
                self._check_address(given[position], network)
                addresses.append(given[position])
                continue
            free = self.allocations.free_address(network)
            if free is None:
                self.causes.append(required("spec.clusterIPs", f"the range {network} is full"))
                return
            addresses.append(free)
        spec["clusterIPs"], spec["clusterIP"] = addresses, addresses[0]

    def _check_address(self, text: str, network: ServiceRange) -> None:
        if text in self.old_spec.get("clusterIPs", ()):
            return
        message = ""
        if _read(text) not in network:
            message = "the provided network does not match the current range"
        elif self.allocations.holds_address(str(_read(text))):
            message = "provided IP is already allocated"
        if message:
            here, given = "spec.clusterIPs", self.spec["clusterIPs"]
            self.causes.append(wrong(here, given, f"failed to allocate IP {text}: {message}"))

    def _ports(self) -> None:
        """Ports of the nodes. Those that share a number get one, if they are new together."""
        spec, old = self.spec, self.old_spec
        ports = spec.get("ports", ())
        held = {p["nodePort"] for p in old.get("ports", ()) if "nodePort" in p}
        taken = {p["nodePort"] for p in ports if "nodePort" in p}
        shared: dict[int, int] = {}
        asked: dict[int, int] = {}
        if self.old is None:
            for port in ports:
                if "nodePort" in port:
                    shared.setdefault(port["port"], port["nodePort"])
        for index, port in enumerate(ports):
            here = f"spec.ports[{index}].nodePort"
            if "nodePort" in port:
                number = port["nodePort"]
                problem = self._port_problem(number, held)
                # Of a new service, ports of one number may share a node port, and no others.
                if asked.setdefault(number, port["port"]) != port["port"] and self.old is None:
                    problem = problem or _ALLOCATED
                if problem:
                    self.causes.append(wrong(here, number, problem))
            elif gets_node_ports(spec):
                chosen = shared.get(port["port"]) or self.allocations.free_port(taken)
                if chosen is None:
                    self.causes.append(required(here, "none is free"))
                    return
                port["nodePort"] = chosen
                taken.add(chosen)
                if self.old is None:
                    shared[port["port"]] = chosen
        if needs_health_check(spec):
            self._health_check(taken)

    def _port_problem(self, port: int, held: set[int]) -> str:
        """Why a port cannot be had; empty if it can."""
        if port not in NODE_PORTS:
            return (
                "provided port is not in the valid range. The range of valid ports is "
                f"{NODE_PORTS.start}-{NODE_PORTS.stop - 1}"
            )
        taken = self.allocations.holds_port(port) and port not in held
        return _ALLOCATED if taken else ""

    def _health_check(self, taken: set[int]) -> None:
        """The port for health checks; it is for life. A real server answers 500, too."""
        spec, old = self.spec, self.old_spec
        asked = spec.get("healthCheckNodePort")
        if asked is None:
            chosen = self.allocations.free_port(taken)
            if chosen is None:
                self.causes.append(required("spec.healthCheckNodePort", "none is free"))
            else:
                spec["healthCheckNodePort"] = chosen
        elif asked != old.get("healthCheckNodePort"):
            problem = self._port_problem(asked, set())
            if asked in taken:
                problem = problem or _ALLOCATED
            if problem:
                message = (
                    "Internal error occurred: failed to allocate requested HealthCheck NodePort "
                    f"{asked}: {problem}"
                )
                raise ApiError(500, "InternalError", message)


def by_family(networks: Sequence[ServiceRange]) -> dict[str, ServiceRange]:
    """Ranges by family, the cluster's first family first."""
    return {_family(network.version): network for network in networks}


def prepare(
    service: Object,
    old: Object | None,
    ranges: Mapping[str, ServiceRange],
    allocations: Allocations,
) -> list[Cause]:
    """Fill in a service's addresses and ports, in place; the causes if it cannot have them.

    Raises ApiError (500) for a port for health checks that cannot be had.
    """
    return _Preparation(service, old, ranges, allocations).run()
