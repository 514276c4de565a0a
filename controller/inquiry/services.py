"""What becomes of a call of a service: which endpoints may take it, whether policies let it get
there, and whether the flows that the switches hold do all that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

import msgspec

from ovsnet.controller.inquiry.calls import ServiceCall
from ovsnet.controller.inquiry.ends import End, at_address
from ovsnet.controller.inquiry.packets import CLIENT_PORT
from ovsnet.controller.inquiry.passage import Fabric, Post
from ovsnet.controller.inquiry.questions import PROTOCOLS
from ovsnet.controller.inquiry.service_trial import ServiceTrial
from ovsnet.controller.inquiry.trial import Start, start
from ovsnet.controller.inquiry.why import Called, Decided, Flows, Outcome, Possible
from ovsnet.controller.inquiry.world import Snapshot
from ovsnet.controller.services.compile import set_names
from ovsnet.flows.fields import IpProto
from ovsnet.flows.node import gateway_of
from ovsnet.flows.serving import Leg, legs
from ovsnet.model import IPAddress, PodRef, ServicePort
from ovsnet.names import GATEWAY_OFPORT, HEALTHY_PORT, UNHEALTHY_PORT
from ovsnet.policy.evaluate import Traffic, evaluate
from ovsnet.policy.world import World
from ovsnet.services.evaluate import OK, Dropped, HealthChecked, Refused, Served
from ovsnet.services.world import Endpoint, Whence

_MOST_NODES: Final = 8
"""Nodes of endpoints whose switches are asked, besides the client's."""

_MOST_TRIED: Final = 50
"""Endpoints that packets are carried to and back from."""

_HEALTH_CHECK: Final = "health check node port"


class Homes:
    """Who is at an address, and on which node."""

    def __init__(self, seen: Snapshot) -> None:
        self._seen = seen
        self._pods = {address: ref for ref, found in seen.addresses.items() for address in found}

    def pod(self, address: IPAddress) -> PodRef | None:
        """The pod that has an address, if one does."""
        return self._pods.get(address)

    def node(self, address: IPAddress) -> str:
        """The node that an address is on; empty: it is outside of the cluster."""
        ref = self._pods.get(address)
        if ref is not None:
            return self._seen.pods[ref].node
        for name, view in self._seen.nodes.items():
            node = view.node
            if address in node.addresses or any(address in r for r in node.pod_cidrs):
                return name
        return ""


def nodes_of(seen: Snapshot, made: ServiceCall) -> tuple[str, ...]:
    """The nodes whose switches a call is looked at on: the client's, and those of few endpoints."""
    here = made.call.client.node
    if not isinstance(made.taken, Served):
        return (here,)
    homes = Homes(seen)
    found = dict.fromkeys(homes.node(each.address) for each in sorted(made.taken.endpoints))
    others = [name for name in found if name not in ("", here)]
    return (here, *others[:_MOST_NODES])


def pods_of(seen: Snapshot, made: ServiceCall) -> Iterator[PodRef]:
    """The pods that may take a call."""
    homes = Homes(seen)
    for endpoint in made.taken.endpoints if isinstance(made.taken, Served) else ():
        pod = homes.pod(endpoint.address)
        if pod is not None:
            yield pod


class ServiceBench:
    """Where calls of services are judged. `cluster` is what policies decide by, `away` says of
    nodes why their switches have not told their flows, `owners` is that of `Reader`.
    """

    def __init__(
        self,
        seen: Snapshot,
        cluster: World,
        fabric: Fabric,
        away: Mapping[str, str],
        owners: Mapping[int, str],
    ) -> None:
        self._seen = seen
        self._cluster = cluster
        self._fabric = fabric
        self._away = away
        self._owners = owners
        self._homes = Homes(seen)

    def called(self, made: ServiceCall, protocol: str, source: End) -> Called:
        """The answer about one call, by one of the protocols that a question may name."""
        call, taken = made.call, made.taken
        family = call.destination.version
        number = PROTOCOLS[protocol][family == 6]
        trial = self._trial(made, number, source)
        found = Called(
            family=f"IPv{family}",
            source=str(call.client.address),
            destination=str(call.destination),
            port=call.port,
            node=call.client.node,
            service=str(taken.service),
            outcome=_OUTCOMES[type(taken)],
            allowed=False,
            flows=Flows(None),
            relayed=made.relayed,
        )
        match taken:
            case Served():
                endpoints = tuple(self._possible(made, taken, number, trial))
                return msgspec.structs.replace(
                    found,
                    allowed=all(each.allowed for each in endpoints),
                    flows=_ask(trial, lambda held: held.choice(taken.endpoints)),
                    face=str(taken.face),
                    service_port=_port_words(taken.port),
                    affinity=self._seen.services[taken.service].affinity,
                    endpoints=endpoints,
                )
            case HealthChecked(status=status):
                return msgspec.structs.replace(
                    found,
                    allowed=True,
                    flows=self._answered_by_the_agent(trial, made, status),
                    face=_HEALTH_CHECK,
                    status=status,
                )
            case Refused():
                gateway = self._leg(made).gateway
                flows = _ask(trial, lambda held: held.refused(gateway))
            case Dropped():
                flows = _ask(trial, lambda held: held.dropped())
        return msgspec.structs.replace(found, reason=str(taken.reason), flows=flows)

    def _possible(
        self, made: ServiceCall, taken: Served, protocol: int, trial: ServiceTrial | str
    ) -> Iterable[Possible]:
        """Every endpoint that may take the call, in order."""
        seen_as = {each: self._seen_as(made, taken, each) for each in sorted(taken.endpoints)}
        cluster = _narrowed(self._cluster, {*seen_as.values(), *(each[0] for each in seen_as)})
        tried = 0
        for endpoint, source in seen_as.items():
            to = endpoint.address
            verdict = evaluate(cluster, Traffic(source, to, protocol, endpoint.port))
            there = self._there(made, endpoint) if tried < _MOST_TRIED else None
            if isinstance(trial, str) or there is None:
                flows = None
            elif isinstance(there, str):
                flows = Flows(None, there)
            else:
                back = evaluate(cluster, Traffic(to, source, protocol, CLIENT_PORT)).allowed
                flows = trial.endpoint(endpoint, there, verdict, back=back)
                tried += 1
            yield Possible(
                endpoint=str(endpoint),
                node=self._homes.node(to),
                seen=str(source),
                allowed=verdict.allowed,
                egress=Decided.of(verdict.egress),
                ingress=Decided.of(verdict.ingress),
                pod=str(self._homes.pod(to) or ""),
                flows=flows,
            )

    def _seen_as(self, made: ServiceCall, taken: Served, endpoint: Endpoint) -> IPAddress:
        """Whom policies and an endpoint take for the client: the node's service address stands for
        whoever would not get the endpoint's answer by this node's switch.
        """
        client, leg = made.call.client, self._leg(made)
        if endpoint in taken.hidden:
            return leg.service
        if client.whence is Whence.POD or endpoint in taken.kept:
            return client.address
        node = self._seen.nodes[client.node].node
        here = any(endpoint.address in r for r in node.pod_cidrs)
        return client.address if here and endpoint.address != leg.gateway else leg.service

    def _there(self, made: ServiceCall, endpoint: Endpoint) -> tuple[End, Start] | str | None:
        """Where an endpoint is; in words why that is not known, or None: its node was not asked."""
        address = endpoint.address
        pod = self._homes.pod(address)
        end = at_address(self._seen, str(endpoint if pod is None else pod), address)
        if not end.addresses:
            return end.remarks[0]
        here = End("", node=made.call.client.node)
        begin = start(self._seen.nodes, end, address, here)
        if begin is None:
            return f"it is not known by which port {end.name} is on the network"
        if begin.post.node in self._away:
            return f"{begin.post.node}: {self._away[begin.post.node]}"
        return (end, begin) if begin.post.node in self._fabric.nodes else None

    def _answered_by_the_agent(
        self, trial: ServiceTrial | str, made: ServiceCall, status: int
    ) -> Flows:
        node = made.call.client.node
        gateway = gateway_of(self._seen.nodes[node].node)
        assert gateway is not None
        agent = End(f"the agent of {node}"), Start(Post(node, GATEWAY_OFPORT), gateway.mac)
        port = HEALTHY_PORT if status == OK else UNHEALTHY_PORT
        endpoint = Endpoint(self._leg(made).gateway, port)
        return _ask(trial, lambda held: held.endpoint(endpoint, agent, None, back=False))

    def _leg(self, made: ServiceCall) -> Leg:
        """The client's node on the pod network, by its addresses of the call's family."""
        node = self._seen.nodes[made.call.client.node].node
        version = made.call.destination.version
        return next(leg for leg in legs(node) if leg.gateway.version == version)

    def _trial(self, made: ServiceCall, protocol: int, source: End) -> ServiceTrial | str:
        client = made.call.client
        end = source if client.whence is Whence.POD else End(source.name, node=client.node)
        begin = start(self._seen.nodes, end, client.address, End("", node=client.node))
        if begin is None:
            return f"it is not known by which port {source.name} is on the network"
        if client.node not in self._fabric.nodes:
            return f"{client.node}: {self._away.get(client.node, 'it was not asked')}"
        service = self._seen.services[made.taken.service]
        sets = dict(set_names(service))
        if protocol == IpProto.SCTP and client.node in self._fabric.userspace:
            return f"the userspace datapath of {client.node} does not know the ports of SCTP"
        return ServiceTrial(self._fabric, made, protocol, (source, begin), self._owners, sets)


_OUTCOMES: Final = {
    Served: Outcome.SERVED,
    Refused: Outcome.REFUSED,
    Dropped: Outcome.DROPPED,
    HealthChecked: Outcome.HEALTH,
}


def _ask(trial: ServiceTrial | str, what: Callable[[ServiceTrial], Flows]) -> Flows:
    """What a trial says; if there is none, the reason for that."""
    return Flows(None, trial) if isinstance(trial, str) else what(trial)


def _narrowed(cluster: World, addresses: set[IPAddress]) -> World:
    """The cluster without pods that have none of these addresses: whoever decides about traffic
    between them looks at every pod.
    """
    pods = {r: p for r, p in cluster.pods.items() if not addresses.isdisjoint(p.addresses)}
    return msgspec.structs.replace(cluster, pods=pods)


def _port_words(port: ServicePort) -> str:
    number = f"{port.port}/{port.protocol}"
    return f"{port.name} ({number})" if port.name else number
