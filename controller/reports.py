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


class Speaker(msgspec.Struct, frozen=True):
    """Who says something: where from, and the node that its certificate names; None: plain HTTP."""

    address: str
    node: str | None = None


def objection(node: str, speaker: Speaker, known: Node | None) -> str | None:
    """Why what this one says is not believed of a node, in words; None: it is.

    `known` is the node of that name. Without a certificate an agent is known by where it speaks
    from: only a node has its own addresses.
    """
    if speaker.node is not None and speaker.node != node:
        return f"its certificate is of node {speaker.node}, and it speaks of node {node!r}"
    if known is None:
        return f"there is no node {node!r}"
    if speaker.node is None and _plain(speaker.address) not in known.addresses:
        own = ", ".join(map(str, known.addresses)) or "none"
        return f"{speaker.address} is no address of node {node}, which has: {own}"
    return None


def _plain(address: str) -> IPv4Address | IPv6Address:
    found = ip_address(address.partition("%")[0])
    return getattr(found, "ipv4_mapped", None) or found
