"""What agents report, and whether it is believed."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated

import msgspec

from ovsnet.controller.settlement import SERIALS
from ovsnet.model import Node


class Settled(msgspec.Struct, frozen=True):
    """The document of `POST /settled`: what the stamp of this digest and number stands for is in
    effect on the node. `digest` is in hexadecimal.
    """

    node: str
    digest: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{1,16}$")]
    serial: Annotated[int, msgspec.Meta(ge=0, lt=SERIALS)]


_decode_settled = msgspec.json.Decoder(Settled).decode


def read_settled(body: bytes) -> Settled:
    """The report from its JSON.

    Raises:
        ValueError: it is none; the message names the field.
    """
    return _decode_settled(body)


def objection(node: str, address: str, known: Node | None) -> str | None:
    """Why what comes from this address is not believed of a node, in words; None: it is.

    `known` is the node of that name. An agent is known by where it speaks from: only a node has
    its own addresses.
    """
    if known is None:
        return f"there is no node {node!r}"
    if _plain(address) not in known.addresses:
        own = ", ".join(map(str, known.addresses)) or "none"
        return f"{address} is no address of node {node}, which has: {own}"
    return None


def _plain(address: str) -> IPv4Address | IPv6Address:
    found = ip_address(address.partition("%")[0])
    return getattr(found, "ipv4_mapped", None) or found
