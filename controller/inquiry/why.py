"""The document that `GET /why` serves: may one end reach the other, by which rules, and do the
flows that the switches hold agree.

Programs may rely on the names here; more of them may come.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from ovsnet.policy.evaluate import Decision


class Decided(msgspec.Struct, frozen=True):
    """What the policies of one end decide, and why.

    `isolated_by` are all policies that isolate it in this direction, `rules` all rules of them
    that allow the connection.
    """

    allowed: bool
    reason: str
    isolated_by: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()

    @classmethod
    def of(cls, decision: Decision) -> Decided:
        """What is decided at one end."""
        return cls(
            allowed=decision.allowed,
            reason=str(decision.reason),
            isolated_by=tuple(map(str, decision.isolating)),
            rules=tuple(map(str, decision.rules)),
        )


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


class Possible(msgspec.Struct, frozen=True):
    """An endpoint of a service that may take a call. `seen` is the address that the call seems to
    come from, to the endpoint and to policies.

    `flows` is None where nobody asked: of many endpoints only some are tried.
    """

    endpoint: str
    node: str
    seen: str
    allowed: bool
    egress: Decided
    ingress: Decided
    pod: str = ""
    flows: Flows | None = None


class Outcome(StrEnum):
    """What becomes of a call of a service."""

    SERVED = "served"
    REFUSED = "refused"
    DROPPED = "dropped"
    HEALTH = "health check"


class Called(msgspec.Struct, frozen=True):
    """A call that a service takes, in one address family, at the node whose switch it meets.

    `face` is by what the service is called and `service_port` by which of its ports; both are empty
    where it has none that fits. `reason` says why it reaches nobody. `relayed` says that the call
    has come there from another node. `affinity` is for how many seconds a client keeps its
    endpoint, `status` what a health check is told.

    `allowed` is whether every endpoint that may take the call can be reached, and there is one.
    `flows` is about the choice among them, or the refusal.
    """

    family: str
    source: str
    destination: str
    port: int | None
    node: str
    service: str
    outcome: Outcome
    allowed: bool
    flows: Flows
    face: str = ""
    service_port: str = ""
    reason: str = ""
    relayed: bool = False
    affinity: int = 0
    status: int = 0
    endpoints: tuple[Possible, ...] = ()

    @property
    def every_flows(self) -> tuple[Flows, ...]:
        """What the flows do to the call, and at each of the endpoints that were tried."""
        return self.flows, *(each.flows for each in self.endpoints if each.flows is not None)

    @property
    def agree(self) -> bool:
        """Whether the flows agree, as far as they were asked."""
        return all(flows.agree for flows in self.every_flows)


class Why(msgspec.Struct, frozen=True):
    """The answers for all address families that both ends have. Calls that services take are in
    `services`; one that goes by way of another node has an answer of its own for the way there.

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
    services: tuple[Called, ...] = ()


_decode_why = msgspec.json.Decoder(Why).decode


def read_why(body: bytes) -> Why:
    """The document from its JSON.

    Raises:
        ValueError: it is none; the message names the field.
    """
    return _decode_why(body)
