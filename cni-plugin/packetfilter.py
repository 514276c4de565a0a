"""The node's own packet filter: one nftables table, `inet ovsnet` (nft(8)), without a rule for any
single service.

**The wall.** With the userspace datapath every packet that arrives on a pod's port goes two ways:
to Open vSwitch, and up the node's own stack, which would deliver or forward it past every flow
(Open vSwitch's manual says to drop it there, userspace installation, "Using the userspace
datapath"). The ports are known by their link group. With the kernel's datapath nothing gets that
far, and the rule matches nothing.

The switch takes what comes by the gateway port for the node's if it has an address of the node's.
So nothing from beyond is forwarded there with one of those, or with one of this node's range; and
nothing that is for an address there that no interface has, unless the node has made it so. Nor does
the switch bring such packets back, but for the node's refusals, whose addresses it has translated.

**Refusals.** The switch marks packets for which there is no endpoint by their source MAC, and the
answer goes back into it. They are answered before anything else is done with them, for whatever
firewall the node has may drop what it is to forward. What the switch hands to the node because no
service has the address would be routed back into it, and is refused as well.

**Node ports.** What comes for one of the node's addresses and a node port goes to the node port
address, so into the switch, with source and ports as they were. Some addresses are left out: nobody
else can be asked in the name of these.

**The way back** for clients whose own address is seen by a program of the node; see `wayback`.

**Masquerade.** What pods send to addresses outside the cluster leaves with the node's own address.
So a pod that wrapped a packet itself and sent it to another node's tunnel would be taken for the
node, which may speak for all its pods: what pods send to the tunnel's UDP port ends here, whatever
its address.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple

from ovsnet import names
from ovsnet.cni import wayback
from ovsnet.cni.links import ENDPOINTS, Address
from ovsnet.cni.ranges import NodeRanges, collapsed

TABLE = "ovsnet"

_FROM_SWITCH = f'iifname "{names.GATEWAY_PORT}"'
_FROM_ELSEWHERE = f'iifname != "{names.GATEWAY_PORT}"'
_TO_SWITCH = f'oifname "{names.GATEWAY_PORT}"'
_REFUSED = f"{_FROM_SWITCH} ether saddr {names.REFUSER_MAC}"
_MARKED = f"ct mark and {wayback.MARK:#x} == {wayback.MARK:#x}"
_UNMARKED = 0xFFFFFFFF ^ wayback.MARK
_RESET = "meta l4proto tcp reject with tcp reset"
_UNREACHABLE = "reject with icmpx port-unreachable"

_NO_NODE_PORTS = {"ip": "127.0.0.0/8", "ip6": "{ ::1, fe80::/10 }"}
"""The node's addresses that have no node ports."""


class _Family(NamedTuple):
    """One IP version of a node: nft's word for it, the node's range, and those addresses in it that
    no interface has.
    """

    word: str
    own: IPv4Network | IPv6Network
    service: Address
    node_port: Address

    @classmethod
    def of(cls, word: str, own: IPv4Network | IPv6Network) -> _Family:
        """The family of the range."""
        return cls(word, own, own[names.SERVICE_OFFSET], own[names.NODE_PORT_OFFSET])


@dataclass(frozen=True)
class PacketFilter:
    """What the table is made from.

    `cluster` are the ranges of pods, `services` those of services. `tunnel_port` is the UDP port of
    the overlay, None where there is none; `node_ports` are the first and the last, None where none
    are redirected.
    """

    ranges: NodeRanges
    cluster: tuple[IPv4Network | IPv6Network, ...]
    services: tuple[IPv4Network | IPv6Network, ...] = ()
    masquerade: bool = True
    tunnel_port: int | None = None
    node_ports: tuple[int, int] | None = names.NODE_PORTS

    def script(self) -> str:
        """The nft script that replaces the table, whether there is one or not."""
        chains = (
            _chain("wall", "filter hook prerouting priority raw", _wall()),
            _chain(
                "refusals",
                "filter hook prerouting priority raw",
                [f"{_REFUSED} {_RESET}", f"{_REFUSED} {_UNREACHABLE}"],
            ),
            _chain("arrivals", "filter hook prerouting priority mangle", self._arrivals()),
            _chain(
                "node_ports",
                "nat hook prerouting priority dstnat - 10",
                (f"{_FROM_ELSEWHERE} {rule}" for rule in self._node_ports()),
            ),
            # As much before the usual place (-100), which has a name at the other hook only.
            _chain("own_node_ports", "nat hook output priority -110", self._node_ports()),
            _chain("answers", "route hook output priority mangle", [_answers()]),
            # Before anybody else's policy may drop without a word what is to be refused.
            _chain("forward", "filter hook forward priority filter - 5", self._forward()),
            _chain("postrouting", "nat hook postrouting priority srcnat", self._masquerade()),
        )
        return (
            f"table inet {TABLE}\n"
            f"delete table inet {TABLE}\n"
            f"table inet {TABLE} {{\n{''.join(chains)}}}\n"
        )

    def _families(self) -> Iterator[_Family]:
        if self.ranges.ipv4 is not None:
            yield _Family.of("ip", self.ranges.ipv4)
        if self.ranges.ipv6 is not None:
            yield _Family.of("ip6", self.ranges.ipv6)

    def _inside(self, own: IPv4Network | IPv6Network) -> str:
        """The pods' ranges of one IP version with the node's own."""
        return _set(own, (own, *self.cluster))

    def _arrivals(self) -> Iterator[str]:
        """Notes which connections came by the gateway port for the node itself and from no pod.

        One that is taken up again by another way is answered that way.
        """
        original = "ct direction original"
        yield f"{_FROM_ELSEWHERE} {original} {_MARKED} ct mark set ct mark and {_UNMARKED:#x}"
        for word, own, *_ in self._families():
            yield (
                f"{_FROM_SWITCH} {word} saddr != {self._inside(own)} {original}"
                f" fib daddr type local ct mark set ct mark or {wayback.MARK:#x}"
            )

    def _node_ports(self) -> Iterator[str]:
        """What is for a node port goes to the node port address, port and source as they are."""
        if self.node_ports is None:
            return
        first, last = self.node_ports
        ports = f"meta l4proto {{ tcp, udp, sctp }} th dport {first}-{last}"
        for word, _, _, target in self._families():
            local = f"fib daddr type local {word} daddr != {_NO_NODE_PORTS[word]}"
            yield f"{local} {ports} dnat {word} to {target}"

    def _forward(self) -> Iterator[str]:
        if self.tunnel_port is not None:
            yield f"{_FROM_SWITCH} udp dport {self.tunnel_port} drop"
        for word, own, service, node_port in self._families():
            yield f"{_FROM_ELSEWHERE} {_TO_SWITCH} {word} saddr {own} drop"
            yield (
                f"{_FROM_ELSEWHERE} {_TO_SWITCH} {word} daddr {{ {service}, {node_port} }}"
                " ct state new ct status & dnat == 0 drop"
            )
            if any(net.version == own.version for net in self.services):
                back = f"{_FROM_SWITCH} {_TO_SWITCH} {word} daddr {_set(own, self.services)}"
                yield f"{back} {_RESET}"
                yield f"{back} {_UNREACHABLE}"
        yield f"{_FROM_ELSEWHERE} {_TO_SWITCH} fib saddr type local drop"

    def _masquerade(self) -> Iterator[str]:
        if not self.masquerade:
            return
        for word, own, *_ in self._families():
            yield (
                f'oifname != "{names.GATEWAY_PORT}" {word} saddr {own}'
                f" {word} daddr != {self._inside(own)} masquerade"
            )


def _wall() -> Iterator[str]:
    yield f"iifgroup {ENDPOINTS} drop"
    yield f"{_FROM_SWITCH} meta l4proto != {{ icmp, ipv6-icmp }} fib saddr type local drop"


def _answers() -> str:
    """Marks what the node sends in connections that are to be answered through the switch."""
    return f"{_MARKED} meta mark set meta mark or {wayback.MARK:#x}"


def _set(like: IPv4Network | IPv6Network, networks: Iterable[IPv4Network | IPv6Network]) -> str:
    """The networks of one IP version as a set, in which nft wants no overlaps."""
    fitting = (str(net) for net in collapsed(networks) if net.version == like.version)
    return f"{{ {', '.join(fitting)} }}"


def _chain(name: str, hook: str, rules: Iterable[str]) -> str:
    lines = (f"type {hook}; policy accept;", *rules)
    return "".join((f"  chain {name} {{\n", *(f"    {line}\n" for line in lines), "  }\n"))
