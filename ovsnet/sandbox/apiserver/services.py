"""Addresses and ports of Services: cluster IPs of both families, node ports.

The rules are those of the Service reference and of "IPv4/IPv6 dual-stack": which families a
service has, which of its fields a server fills in, and which it takes back when the type changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address

from ovsnet.sandbox.apiserver.causes import forbidden, required, wrong
from ovsnet.sandbox.apiserver.kinds import SERVICE, Kind, Object
from ovsnet.sandbox.apiserver.status import Cause
from ovsnet.sandbox.apiserver.store import Change, Stored

NODE_PORTS = range(30000, 32768)
"""Ports that a node keeps for services (kube-apiserver's default)."""

_STATIC_BAND = 256
_DUAL = ("PreferDualStack", "RequireDualStack")

ServiceRange = IPv4Network | IPv6Network


def family_of(address: ServiceRange | str) -> str:
    """ "IPv4" or "IPv6", as the API names the families."""
    version = ip_address(address).version if isinstance(address, str) else address.version
    return f"IPv{version}"


class Allocations:
    """Which addresses and node ports the stored services hold. Follows the store."""

    def __init__(self) -> None:
        self._addresses: Counter[str] = Counter()
        self._ports: Counter[int] = Counter()

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
                self._addresses[address] += step
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
        others (the first of all is the API server's own).
        """
        size = network.num_addresses
        last = size - 1 if network.version == 4 else size
        band = min(max(16, size // 16), _STATIC_BAND)
        offsets = [range(band, last), range(1, min(band, last))]
        for candidates in offsets:
            for offset in candidates:
                address = str(network[offset])
                if not self.holds_address(address):
                    return address
        return None

    def free_port(self, taken: set[int]) -> int | None:
        """A node port that neither a stored service nor `taken` holds, or None."""
        return next((p for p in NODE_PORTS if not self.holds_port(p) and p not in taken), None)


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
        if self.spec["type"] == "ExternalName":
            for name in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
                self.spec.pop(name, None)
        else:
            self._carry_over()
            self._families()
            self._addresses()
        if not self.causes:
            self._ports()
        return self.causes

    def _carry_over(self) -> None:
        """An update that is silent about what was allocated keeps it."""
        spec, old = self.spec, self.old_spec
        if "clusterIP" in spec and spec["clusterIP"] != old.get("clusterIP", spec["clusterIP"]):
            if old.get("type") != "ExternalName":
                self.causes.append(wrong("spec.clusterIP", spec["clusterIP"], "field is immutable"))
            return
        for name in ("clusterIP", "clusterIPs"):
            if not spec.get(name) and old.get(name):
                spec[name] = old[name]
        if "ipFamilyPolicy" not in spec and "ipFamilyPolicy" in old:
            spec["ipFamilyPolicy"] = old["ipFamilyPolicy"]
        if "ipFamilies" not in spec and "ipFamilies" in old:
            spec["ipFamilies"] = old["ipFamilies"]
        # Going back to one family gives the second address back.
        if spec.get("ipFamilyPolicy") == "SingleStack" and self.old is not None:
            for name in ("clusterIPs", "ipFamilies"):
                if old.get("ipFamilyPolicy") != "SingleStack" and spec.get(name) == old.get(name):
                    spec[name] = spec.get(name, [])[:1]

    def _families(self) -> None:
        spec = self.spec
        asked = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
        if any(not _is_address(text) for text in asked if text != "None"):
            self.causes.append(wrong("spec.clusterIPs", asked, "must be valid IP addresses"))
            return
        implied = [family_of(text) for text in asked if text != "None"]
        families = spec.get("ipFamilies") or implied or list(self.ranges)[:1]
        policy = spec.get("ipFamilyPolicy") or (
            "RequireDualStack" if len(families) > 1 else "SingleStack"
        )
        if policy in _DUAL:
            families = families + [f for f in self.ranges if f not in families]
        if policy == "RequireDualStack" and len(self.ranges) < 2:
            message = "this cluster is not configured for dual-stack services"
            self.causes.append(wrong("spec.ipFamilyPolicy", policy, message))
        missing = [f for f in families if f not in self.ranges]
        if missing:
            message = "not configured on this cluster"
            self.causes.append(wrong("spec.ipFamilies[0]", missing[0], message))
        if policy == "SingleStack" and len(families) > 1:
            message = "must be RequireDualStack or PreferDualStack when several families are given"
            self.causes.append(wrong("spec.ipFamilyPolicy", policy, message))
        spec["ipFamilies"], spec["ipFamilyPolicy"] = families, policy

    def _addresses(self) -> None:
        spec = self.spec
        if self.causes:
            return
        if spec.get("clusterIP") == "None":
            spec["clusterIPs"] = ["None"]
            return
        given = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
        if spec.get("clusterIP") and given[0] != spec["clusterIP"]:
            message = "first value must match `clusterIP`"
            self.causes.append(wrong("spec.clusterIPs[0]", given[0], message))
            return
        addresses = []
        for position, family in enumerate(spec["ipFamilies"]):
            network = self.ranges[family]
            if position < len(given):
                addresses.append(self._given_address(given[position], family, position))
                continue
            free = self.allocations.free_address(network)
            if free is None:
                self.causes.append(required("spec.clusterIPs", f"the range {network} is full"))
                return
            addresses.append(free)
        spec["clusterIPs"], spec["clusterIP"] = addresses, addresses[0]

    def _given_address(self, text: str, family: str, position: int) -> str:
        here = f"spec.clusterIPs[{position}]"
        network = self.ranges[family]
        if family_of(text) != family:
            self.causes.append(wrong(here, text, f"expected an {family} value"))
        elif ip_address(text) not in network:
            message = f"failed to allocate IP {text}: the provided network does not match {network}"
            self.causes.append(wrong(here, text, message))
        elif self.allocations.holds_address(text) and text not in self.old_spec.get(
            "clusterIPs", ()
        ):
            message = f"failed to allocate IP {text}: provided IP is already allocated"
            self.causes.append(wrong(here, text, message))
        return text

    def _ports(self) -> None:
        spec, old = self.spec, self.old_spec
        before = {
            (p["protocol"], p["port"]): p["nodePort"]
            for p in old.get("ports", ())
            if "nodePort" in p
        }
        held = set(before.values()) | {old.get("healthCheckNodePort", 0)}
        exposed = spec["type"] == "NodePort" or (
            spec["type"] == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts", True)
        )
        taken: dict[int, set[str]] = {}
        for index, port in enumerate(spec.get("ports", ())):
            if not exposed and spec["type"] != "LoadBalancer":
                port.pop("nodePort", None)
                continue
            if "nodePort" not in port and exposed:
                kept = before.get((port["protocol"], port["port"]))
                chosen = kept or self.allocations.free_port(set(taken))
                if chosen is None:
                    self.causes.append(required(f"spec.ports[{index}].nodePort", "none is free"))
                    return
                port["nodePort"] = chosen
            if "nodePort" in port:
                self._check_port(port["nodePort"], index, held)
                protocols = taken.setdefault(port["nodePort"], set())
                if port["protocol"] in protocols:
                    here = f"spec.ports[{index}].nodePort"
                    message = "provided port is already allocated"
                    self.causes.append(wrong(here, port["nodePort"], message))
                protocols.add(port["protocol"])
        self._health_check(set(taken))

    def _check_port(self, port: int, index: int, held: set[int]) -> None:
        here = f"spec.ports[{index}].nodePort"
        if port not in NODE_PORTS:
            message = (
                "provided port is not in the valid range. The range of valid ports is "
                f"{NODE_PORTS.start}-{NODE_PORTS.stop - 1}"
            )
            self.causes.append(wrong(here, port, message))
        elif self.allocations.holds_port(port) and port not in held:
            self.causes.append(wrong(here, port, "provided port is already allocated"))

    def _health_check(self, taken: set[int]) -> None:
        spec = self.spec
        local = spec.get("externalTrafficPolicy") == "Local" and spec["type"] == "LoadBalancer"
        if not local:
            if spec.get("healthCheckNodePort") and self.old is None:
                message = "may only be set when `type` is 'LoadBalancer' and the policy is 'Local'"
                self.causes.append(forbidden("spec.healthCheckNodePort", message))
            spec.pop("healthCheckNodePort", None)
            return
        kept = self.old_spec.get("healthCheckNodePort")
        chosen = spec.get("healthCheckNodePort") or kept or self.allocations.free_port(taken)
        if chosen is not None:
            spec["healthCheckNodePort"] = chosen


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def by_family(networks: Sequence[ServiceRange]) -> dict[str, ServiceRange]:
    """Ranges by family, the cluster's first family first."""
    return {family_of(network): network for network in networks}


def prepare(
    service: Object,
    old: Object | None,
    ranges: Mapping[str, ServiceRange],
    allocations: Allocations,
) -> list[Cause]:
    """Fill in a service's addresses and ports, in place; the causes if it cannot have them."""
    return _Preparation(service, old, ranges, allocations).run()
