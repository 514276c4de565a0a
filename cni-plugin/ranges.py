"""The address ranges of a node, and the addresses that one host offset has in them.

A node has at most one IPv4 and one IPv6 range (its podCIDRs). A pod gets the same host offset in
both; offset 1 is the gateway, offset 2 the node's service address, the last address its node port
address. One number therefore stands for all addresses of a pod.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    collapse_addresses,
    ip_address,
    ip_network,
)

from ovsnet import names

_RESERVED = {
    names.GATEWAY_OFFSET: "the gateway's",
    names.SERVICE_OFFSET: "the node's service address",
}


def collapsed(
    networks: Iterable[IPv4Network | IPv6Network],
) -> tuple[IPv4Network | IPv6Network, ...]:
    """The fewest networks that hold the same addresses, IPv4 first; no two of them overlap."""
    both = tuple(networks)
    return (
        *collapse_addresses(n for n in both if isinstance(n, IPv4Network)),
        *collapse_addresses(n for n in both if isinstance(n, IPv6Network)),
    )


@dataclass(frozen=True)
class Addresses:
    """A pod's addresses and the gateways it reaches the network through."""

    offset: int
    ipv4: IPv4Address | None
    ipv6: IPv6Address | None
    gateway4: IPv4Address | None
    gateway6: IPv6Address | None

    @property
    def _mac_number(self) -> IPv4Address | int:
        return self.ipv4 if self.ipv4 is not None else self.offset

    @property
    def pod_mac(self) -> str:
        """MAC of the pod's own side."""
        return names.pod_mac(self._mac_number)

    @property
    def host_mac(self) -> str:
        """MAC of the host side, which tells the controller the address."""
        return names.host_mac(self._mac_number)

    @property
    def text(self) -> str:
        """Both addresses for logs and messages."""
        return ",".join(str(a) for a in (self.ipv4, self.ipv6) if a is not None)


@dataclass(frozen=True)
class NodeRanges:
    """A node's podCIDRs, at most one of each family and at least one."""

    ipv4: IPv4Network | None = None
    ipv6: IPv6Network | None = None

    def __post_init__(self) -> None:
        if self.ipv4 is None and self.ipv6 is None:
            raise ValueError("a node's ranges need at least one podCIDR")
        if self.last < self.first:
            raise ValueError(f"podCIDR {self.text} is too small to hold a pod's address")

    @classmethod
    def of(cls, cidrs: Iterable[str]) -> NodeRanges:
        """Ranges from a Node's `spec.podCIDRs`.

        Raises:
            ValueError: one is no network, or a family occurs twice, or there is none at all.
        """
        found: dict[int, IPv4Network | IPv6Network] = {}
        for cidr in cidrs:
            network = ip_network(cidr)
            if network.version in found:
                raise ValueError(
                    f"two podCIDRs of IPv{network.version}: {found[network.version]} and {network};"
                    " expected at most one of each family"
                )
            found[network.version] = network
        ipv4, ipv6 = found.get(4), found.get(6)
        assert ipv4 is None or isinstance(ipv4, IPv4Network)
        assert ipv6 is None or isinstance(ipv6, IPv6Network)
        return cls(ipv4, ipv6)

    @property
    def text(self) -> str:
        """The ranges as operators write them, IPv4 first."""
        return ",".join(str(n) for n in (self.ipv4, self.ipv6) if n is not None)

    @property
    def first(self) -> int:
        """The lowest host offset that a pod may have."""
        return names.FIRST_POD_OFFSET

    @property
    def last(self) -> int:
        """The highest host offset that a pod may have, limited by the smaller range.

        The last address of each range is the node port address.
        """
        sizes = [n.num_addresses for n in (self.ipv4, self.ipv6) if n is not None]
        return min(min(sizes) - 2, 0xFFFFFFFF)

    @property
    def size(self) -> int:
        """How many pods have room."""
        return self.last - self.first + 1

    def addresses(self, offset: int) -> Addresses:
        """The addresses at a host offset."""
        gateway = names.GATEWAY_OFFSET
        return Addresses(
            offset,
            self.ipv4[offset] if self.ipv4 else None,
            self.ipv6[offset] if self.ipv6 else None,
            self.ipv4[gateway] if self.ipv4 else None,
            self.ipv6[gateway] if self.ipv6 else None,
        )

    @property
    def gateway(self) -> Addresses:
        """The node's own addresses, which are its pods' gateway."""
        return self.addresses(names.GATEWAY_OFFSET)

    @property
    def node_port(self) -> Addresses:
        """Where the node sends what comes for its node ports (not the service address, which only
        the switch uses); see `names.NODE_PORT_OFFSET`.
        """
        return self.addresses(names.NODE_PORT_OFFSET)

    def offset_of(self, addresses: Iterable[str]) -> int:
        """The one host offset at which these addresses lie, which must be one of each family.

        Raises:
            ValueError: an address is outside the node's range or reserved, a family is missing or
                too many, or the offsets differ. The message names the addresses.
        """
        offsets: dict[int, int] = {}
        for text in addresses:
            address = ip_address(text)
            network = self.ipv4 if address.version == 4 else self.ipv6
            if network is None or address not in network:
                raise ValueError(f"{address} is not in the node's range {self.text}")
            if address.version in offsets:
                raise ValueError(f"{address} is a second IPv{address.version} address")
            offsets[address.version] = int(address) - int(network.network_address)
        wanted = {n.version for n in (self.ipv4, self.ipv6) if n is not None}
        if set(offsets) != wanted:
            families = " and ".join(f"IPv{v}" for v in sorted(wanted))
            raise ValueError(f"expected one address each of {families}, as the node has")
        if len(set(offsets.values())) > 1:
            both = ", ".join(f"IPv{v}: {o}" for v, o in sorted(offsets.items()))
            raise ValueError(
                f"the host offsets differ ({both}); both families must have the same one"
            )
        offset = next(iter(offsets.values()))
        if not self.first <= offset <= self.last:
            whose = f" ({_RESERVED[offset]})" if offset in _RESERVED else ""
            raise ValueError(
                f"host offset {offset} is reserved{whose}; pods have {self.first} to {self.last}"
            )
        return offset
