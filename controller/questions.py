"""What may be asked of a controller over HTTP, and why it may not answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from ovsnet.flows.fields import IpProto

PROTOCOLS: Final[Mapping[str, tuple[IpProto, IpProto]]] = {
    "tcp": (IpProto.TCP, IpProto.TCP),
    "udp": (IpProto.UDP, IpProto.UDP),
    "sctp": (IpProto.SCTP, IpProto.SCTP),
    "icmp": (IpProto.ICMP, IpProto.ICMPV6),
}
"""The protocols of a question, with their numbers over IPv4 and over IPv6."""


class QuestionError(ValueError):
    """The question makes no sense; the message says why, and what would."""


class UnableError(Exception):
    """The controller cannot answer at present; the message says what it lacks."""


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`GET /why`: may `source` reach `destination`? Both are NAMESPACE/POD, node/NAME or an
    address.

    `port` is a number, a name that the destination has for it, or empty: every port of the
    protocol that the destination declares.
    """

    source: str
    destination: str
    protocol: str = "tcp"
    port: str = ""


def read_question(query: Mapping[str, str]) -> Question:
    """The question that the parameters of a request put.

    Raises:
        QuestionError: one is missing, or unknown.
    """
    try:
        return msgspec.convert(dict(query), Question)
    except msgspec.ValidationError as error:
        fields = ", ".join(Question.__struct_fields__)
        raise QuestionError(f"{error}; a question has {fields}") from error
