"""What becomes of a call: Services (v1) and EndpointSlices (discovery.k8s.io/v1), read out.

Written from the API's definition by the simplest way there is, for one call at a time. It shares
nothing with what makes flows of services, so that each can be held against the other.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

import msgspec

from ovsnet.model import IPAddress, ServicePort, ServiceRef
from ovsnet.services.claims import Claim, Face, Spot, holder, owner
from ovsnet.services.selection import candidates, everywhere, healthy, here, usable
from ovsnet.services.world import (
    Call,
    Client,
    Endpoint,
    Whence,
    World,
    in_pod_range,
    is_on,
    own_addresses,
)


class NotAService(msgspec.Struct, frozen=True):
    """No service has anything to do with the call."""


class Served(msgspec.Struct, frozen=True):
    """One of these endpoints takes the call: the first call of a client may reach each of them.

    Those in `kept` must see the client's own address, those in `hidden` must see another one. The
    others may see either.
    """

    service: ServiceRef
    port: ServicePort
    face: Face
    endpoints: frozenset[Endpoint]
    kept: frozenset[Endpoint] = frozenset()
    hidden: frozenset[Endpoint] = frozenset()


class Reason(StrEnum):
    """Why a call reaches no endpoint."""

    NO_ENDPOINT = "the service has no endpoint that could answer"
    NO_SUCH_PORT = "the address belongs to a service that has no such port"
    NONE_HERE = "only endpoints on the node may answer, and it has none"
    SOURCE_RANGES = "the load balancer's source ranges do not have the client's address"


class Refused(msgspec.Struct, frozen=True):
    """The client is told at once: TCP reset, or ICMP unreachable."""

    service: ServiceRef
    reason: Reason


class Dropped(msgspec.Struct, frozen=True):
    """The client hears nothing."""

    service: ServiceRef
    reason: Reason


class HealthChecked(msgspec.Struct, frozen=True):
    """The node itself answers for the service, with an HTTP status (`healthCheckNodePort`)."""

    service: ServiceRef
    status: int


Outcome: TypeAlias = NotAService | Served | Refused | Dropped | HealthChecked

OK = 200
UNAVAILABLE = 503


def evaluate(world: World, call: Call) -> Outcome:
    """Decide about the first call of a client, at the node where it meets the switch.

    A service's address is all the service's: ports that it does not have are refused, and so is
    what has no ports. Only where a node has that address itself (an external address may be a
    node's) is the rest the node's own business.

    Node ports are ports of the node's own addresses, for callers from outside, on that node, and
    the node itself. A call to another node's is none of this node's services; see `onward`.
    """
    claim = _claim(world, call, call.destination)
    if claim is not None:
        return _outcome(world, claim, call.client)
    service = owner(world, call.destination)
    if service is not None and not _is_a_nodes(world, call.destination):
        return Refused(service.ref, Reason.NO_SUCH_PORT)
    if call.destination in own_addresses(world, call.client.node):
        claim = _claim(world, call, None)
    return NotAService() if claim is None else _outcome(world, claim, call.client)


def evaluate_again(world: World, call: Call, earlier: Endpoint) -> Outcome:
    """Decide about a later call of a client whose call to the same destination went to `earlier`,
    no longer ago than the timeout of session affinity.

    With session affinity it reaches the same endpoint, as long as that is one of those that a
    first call may reach.
    """
    outcome = evaluate(world, call)
    if not isinstance(outcome, Served) or earlier not in outcome.endpoints:
        return outcome
    if not world.services[outcome.service].affinity:
        return outcome
    only = frozenset({earlier})
    return msgspec.structs.replace(
        outcome, endpoints=only, kept=outcome.kept & only, hidden=outcome.hidden & only
    )


def onward(world: World, call: Call) -> Call | None:
    """The same call as it arrives at another node, if its destination is that node's own: from
    outside, with the first node's address, which routes it there. None if it does not: a service
    of the first node takes it, it is the first node's own, or nobody's.
    """
    if not isinstance(evaluate(world, call), NotAService):
        return None
    first = world.nodes.get(call.client.node)
    family = call.destination.version
    source = next((a for a in first.addresses if a.version == family), None) if first else None
    for node in world.nodes.values():
        if source and node.name != call.client.node and call.destination in node.addresses:
            return msgspec.structs.replace(call, client=Client(Whence.OUTSIDE, node.name, source))
    return None


def _claim(world: World, call: Call, address: IPAddress | None) -> Claim | None:
    if call.protocol is None or call.port is None:
        return None
    return holder(world, Spot(address, call.protocol, call.port))


def _is_a_nodes(world: World, address: IPAddress) -> bool:
    return any(address in node.addresses for node in world.nodes.values())


def _outcome(world: World, claim: Claim, client: Client) -> Outcome:
    service, family = claim.service, client.address.version
    if family not in service.families:
        return NotAService()
    if claim.port is None:
        well = healthy(world, service, client.node)
        return HealthChecked(service.ref, OK if well else UNAVAILABLE)
    if not _admitted(claim, client):
        return Dropped(service.ref, Reason.SOURCE_RANGES)
    known = candidates(world, service, claim.port, family)
    if not usable(known):
        return Refused(service.ref, Reason.NO_ENDPOINT)
    if _only_here(claim, client):
        chosen = here(known, client.node)
    else:
        node = world.nodes.get(client.node)
        chosen = everywhere(known, client.node, node.zone if node else "")
    if not chosen:
        return Dropped(service.ref, Reason.NONE_HERE)
    endpoints = frozenset(candidate.endpoint for candidate in chosen)
    return Served(
        service.ref,
        claim.port,
        claim.face,
        endpoints,
        kept=frozenset(e for e in endpoints if _kept(world, claim, client, e)),
        hidden=frozenset(e for e in endpoints if _hidden(client, e)),
    )


def _admitted(claim: Claim, client: Client) -> bool:
    """Source ranges (`loadBalancerSourceRanges`) hold for everybody who calls a load balancer's
    address, from wherever, and for no other face. Whoever is in none of them is kept out; so are
    all clients of a family that has no range, where kube-proxy lets all of them in.
    """
    sources = claim.service.sources
    if sources is None or claim.face is not Face.LOAD_BALANCER:
        return True
    return any(client.address in network for network in sources)


def _only_here(claim: Claim, client: Client) -> bool:
    """Whether a traffic policy "Local" holds: the internal one for cluster addresses; the external
    one for everything else, and not for clients inside the cluster, which never went out of it.
    """
    if claim.face is Face.CLUSTER:
        return claim.service.internal_local
    return claim.service.external_local and client.whence is Whence.OUTSIDE


def _hidden(client: Client, endpoint: Endpoint) -> bool:
    """Nobody gets an answer to what seems to come from himself."""
    return endpoint.address == client.address


def _kept(world: World, claim: Claim, client: Client, endpoint: Endpoint) -> bool:
    """Whether an endpoint must see who really calls: a pod whom a pod calls, since policies judge
    by that; and, with the external traffic policy "Local", an endpoint that is on the node itself,
    be it a pod or the node (API, `externalTrafficPolicy`: "preserves the client source IP").
    """
    if _hidden(client, endpoint):
        return False
    if client.whence is Whence.POD:
        return in_pod_range(world, endpoint.address)
    return (
        claim.face is not Face.CLUSTER
        and _only_here(claim, client)
        and is_on(world, endpoint.address, client.node)
    )
