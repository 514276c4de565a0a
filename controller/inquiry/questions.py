"""What may be asked of a controller over HTTP, and why it may not answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from ovsnet.api import NETWORK_POLICY
from ovsnet.flows.fields import IpProto
from ovsnet.model import NetworkPolicy

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
    address; the destination may be service/NAMESPACE/NAME.

    `port` is a number, a name that the destination has for it, or empty: every port of the
    protocol that the destination declares, or a service's only port. An empty `protocol` is that of
    a service's port, and else TCP.
    """

    source: str
    destination: str
    protocol: str = ""
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


class Proposal(msgspec.Struct, frozen=True):
    """`POST /plan`: what if these policies were applied, or deleted?"""

    policies: tuple[NetworkPolicy, ...]
    delete: bool = False


class _WireProposal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    policies: list[msgspec.Raw]
    delete: bool = False


_decode_proposal = msgspec.json.Decoder(_WireProposal).decode


def read_proposal(body: bytes) -> Proposal:
    """The proposal from its JSON: `policies` are NetworkPolicy objects as the API has them.

    Raises:
        QuestionError: it is none, or one of the policies cannot be told apart from others.
    """
    try:
        wire = _decode_proposal(body)
    except msgspec.MsgspecError as error:
        raise QuestionError(f"expected policies and whether to delete them: {error}") from error
    return Proposal(tuple(map(_policy, range(len(wire.policies)), wire.policies)), wire.delete)


def _policy(index: int, raw: msgspec.Raw) -> NetworkPolicy:
    try:
        found = NETWORK_POLICY.convert(NETWORK_POLICY.decode(raw))
    except msgspec.MsgspecError as error:
        raise QuestionError(f"policies[{index}] is no NetworkPolicy: {error}") from error
    if found.value is None:
        wrong = ", ".join(f"{p.field}: {p.reason}" for p in found.problems)
        raise QuestionError(f"policies[{index}] is no NetworkPolicy: {wrong}")
    policy: NetworkPolicy = found.value
    return policy
