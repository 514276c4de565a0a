"""The document that `GET /why` serves: may one end reach the other, by which rules, and do the
flows that the switches hold agree.

Programs may rely on the names here; more of them may come.
"""

from __future__ import annotations

import msgspec


class Decided(msgspec.Struct, frozen=True):
    """What the policies of one end decide, and why.

    `isolated_by` are all policies that isolate it in this direction, `rules` all rules of them
    that allow the connection.
    """

    allowed: bool
    reason: str
    isolated_by: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()


class Reading(msgspec.Struct, frozen=True):
    """A flow of a switch: as ovs-ofctl writes it, in words, and the object that it exists for."""

    node: str
    table: str
    flow: str
    packets: str
    outcome: str
    owner: str


class Fate(msgspec.Struct, frozen=True):
    """What the flows do to one packet of the connection.

    `right` tells whether that is what the policies decide. `flow` is the one that dropped it, or
    else, where it should not have got so far, the one that let it through.
    """

    packet: str
    arrives: bool
    where: str
    right: bool
    flow: Reading | None = None


class Flows(msgspec.Struct, frozen=True):
    """What the flows that the switches held do to the connection.

    `agree` is None if that cannot be told; `problem` says why, or what does not agree.
    """

    agree: bool | None
    problem: str = ""
    fates: tuple[Fate, ...] = ()


class Answer(msgspec.Struct, frozen=True):
    """One connection, in one address family. `port` is None where the protocol has none."""

    family: str
    source: str
    destination: str
    port: int | None
    allowed: bool
    egress: Decided
    ingress: Decided
    flows: Flows


class Why(msgspec.Struct, frozen=True):
    """The answers for all address families that both ends have.

    `allowed` is whether all of them are, None where there is no answer. `agree` is whether the
    flows agree with every answer, and there is one.
    """

    source: str
    destination: str
    protocol: str
    allowed: bool | None
    agree: bool
    remarks: tuple[str, ...] = ()
    answers: tuple[Answer, ...] = ()


_decode_why = msgspec.json.Decoder(Why).decode


def read_why(body: bytes) -> Why:
    """The document from its JSON.

    Raises:
        ValueError: it is none; the message names the field.
    """
    return _decode_why(body)
