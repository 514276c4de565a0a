"""The parts of the address space that ipBlocks tell apart, with an address of each part."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import msgspec

from ovsnet.model import IPAddress, IPNetwork, NetworkPolicy, parse_network

EVERYTHING = (parse_network("0.0.0.0/0"), parse_network("::/0"))


class Part(msgspec.Struct, frozen=True):
    """The addresses of a network without those of smaller networks that policies name."""

    network: IPNetwork
    without: tuple[IPNetwork, ...] = ()

    def __str__(self) -> str:
        if not self.without:
            return str(self.network)
        return f"{self.network} without {', '.join(map(str, self.without))}"


def parts(policies: Iterable[NetworkPolicy], taken: Collection[IPAddress]) -> dict[Part, IPAddress]:
    """Every part of the address space that the policies' blocks do not divide further, with an
    address that is none of those taken. Parts without such an address are left out.
    """
    found = {
        part: _free_address(part, taken)
        for part in _divide({*EVERYTHING, *(n for policy in policies for n in _named(policy))})
    }
    return {part: address for part, address in found.items() if address is not None}


def _named(policy: NetworkPolicy) -> Iterator[IPNetwork]:
    for rule in (*policy.ingress, *policy.egress):
        for peer in rule.peers or ():
            if peer.ip_block is not None:
                yield peer.ip_block.cidr
                yield from peer.ip_block.exceptions


def _divide(networks: Collection[IPNetwork]) -> list[Part]:
    """Networks are apart or one within the other, so each has the others right below it."""
    below: dict[IPNetwork, list[IPNetwork]] = {}
    around: list[IPNetwork] = []
    for network in sorted(networks, key=lambda n: (n.version, int(n.network_address), n.prefixlen)):
        while around and network.network_address not in around[-1]:
            around.pop()
        if around:
            below[around[-1]].append(network)
        below[network] = []
        around.append(network)
    return [Part(network, tuple(without)) for network, without in below.items()]


def _free_address(part: Part, taken: Collection[IPAddress]) -> IPAddress | None:
    network, offset = part.network, 0
    start = int(network.network_address)
    gaps = [(int(n.network_address) - start, n.num_addresses) for n in part.without]
    for gap, size in (*gaps, (network.num_addresses, 0)):
        for candidate in range(offset, gap):
            if network[candidate] not in taken:
                return network[candidate]
        offset = gap + size
    return None
