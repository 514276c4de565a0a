"""May one end reach another: what policies and services decide, and what the flows of the switches
do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ovsnet.controller.inquiry.calls import ServiceCall
from ovsnet.controller.inquiry.cases import Case
from ovsnet.controller.inquiry.ends import End
from ovsnet.controller.inquiry.packets import CLIENT_PORT
from ovsnet.controller.inquiry.passage import Fabric, Held
from ovsnet.controller.inquiry.questions import PROTOCOLS
from ovsnet.controller.inquiry.remarks import remarks
from ovsnet.controller.inquiry.services import ServiceBench, nodes_of
from ovsnet.controller.inquiry.trial import Start, Trial, start
from ovsnet.controller.inquiry.why import Answer, Called, Decided, Flows, Why
from ovsnet.controller.inquiry.world import Snapshot, world
from ovsnet.policy.evaluate import Traffic, Verdict, evaluate


def switches(seen: Snapshot, about: Case) -> frozenset[str]:
    """The nodes on whose switches a connection is looked at."""
    found = {name for made in about.calls for name in nodes_of(seen, made)}
    families = {family for _, family in about.others}
    for family in () if about.to_itself else families:
        for _, begin in _starts(seen, about, family):
            if begin is not None:
                found.add(begin.post.node)
    return frozenset(found)


def _starts(seen: Snapshot, about: Case, family: int) -> Iterator[tuple[End, Start | None]]:
    source, destination = about.source, about.destination
    for end, other in ((source, destination), (destination, source)):
        address = end.address(family)
        assert address is not None
        yield end, start(seen.nodes, end, address, other)


def verdict(
    seen: Snapshot, about: Case, held: Mapping[str, Held | str], owners: Mapping[int, str]
) -> Why:
    """The answer. `held` is what the switches of the nodes in `switches` hold, or in words why that
    is not known; `owners` has the names of flows' owners by cookie.
    """
    bench = _Bench(seen, about, held, owners)
    answers = tuple(bench.answer(port, family) for port, family in about.others)
    services = tuple(bench.called(made) for made in about.calls)
    allowed = [answer.allowed for answer in answers] + [each.allowed for each in services]
    agree = [answer.flows.agree for answer in answers] + [each.agree for each in services]
    return Why(
        source=about.source.name,
        destination=about.destination.name,
        protocol=about.protocol,
        allowed=all(allowed) if allowed else None,
        agree=bool(agree) and all(agree),
        remarks=(*remarks(seen, about), *bench.remarks()),
        answers=answers,
        services=services,
    )


class _Bench:
    """Where one case is judged."""

    def __init__(
        self,
        seen: Snapshot,
        about: Case,
        held: Mapping[str, Held | str],
        owners: Mapping[int, str],
    ) -> None:
        self._seen = seen
        self._about = about
        self._owners = owners
        self._world = world(seen)
        self._away = {node: each for node, each in held.items() if isinstance(each, str)}
        self._fabric = Fabric(
            (each for each in held.values() if isinstance(each, Held)),
            (view.node for view in seen.nodes.values()),
        )

    def answer(self, port: int | None, family: int) -> Answer:
        """The answer about one port in one address family."""
        source = self._about.source.address(family)
        destination = self._about.destination.address(family)
        assert source is not None
        assert destination is not None
        protocol = PROTOCOLS[self._about.protocol][family == 6]
        traffic = Traffic(source, destination, protocol, port)
        decided = evaluate(self._world, traffic)
        return Answer(
            family=f"IPv{family}",
            source=str(source),
            destination=str(destination),
            port=port,
            allowed=decided.allowed,
            egress=Decided.of(decided.egress),
            ingress=Decided.of(decided.ingress),
            flows=self._flows(traffic, decided, family),
        )

    def called(self, made: ServiceCall) -> Called:
        """The answer about one call of a service."""
        bench = ServiceBench(self._seen, self._world, self._fabric, self._away, self._owners)
        return bench.called(made, self._about.protocol, self._about.source)

    def remarks(self) -> Iterator[str]:
        """What is to be known of the switches."""
        if self._about.protocol == "sctp":
            for node in self._fabric.userspace:
                yield (
                    f"the userspace datapath of {node} does not know the ports of SCTP "
                    "connections: rules that name them allow nothing there"
                )

    def _flows(self, traffic: Traffic, decided: Verdict, family: int) -> Flows:
        if self._about.to_itself:
            return Flows(True)
        ends: list[tuple[End, Start]] = []
        for end, begin in _starts(self._seen, self._about, family):
            if begin is None:
                return Flows(None, f"it is not known by which port {end.name} is on the network")
            if begin.post.node in self._away:
                return Flows(None, f"{begin.post.node}: {self._away[begin.post.node]}")
            ends.append((end, begin))
        source, destination = ends
        port = None if traffic.port is None else CLIENT_PORT
        answers = Traffic(traffic.destination, traffic.source, traffic.protocol, port)
        back = evaluate(self._world, answers)
        return Trial(self._fabric, source, destination, self._owners).flows(traffic, decided, back)
