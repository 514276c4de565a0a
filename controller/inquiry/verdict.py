"""May one end reach another: what the policies decide, and what the flows of the switches do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from ovsnet.controller.inquiry.ends import End, UnknownEndError, resolve
from ovsnet.controller.inquiry.passage import Fabric, Held
from ovsnet.controller.inquiry.questions import PROTOCOLS, Question, QuestionError
from ovsnet.controller.inquiry.trial import CLIENT_PORT, Start, Trial, start
from ovsnet.controller.inquiry.why import Answer, Decided, Flows, Why
from ovsnet.controller.inquiry.world import Snapshot, world
from ovsnet.model import PodRef
from ovsnet.policy.evaluate import Decision, Traffic, Verdict, evaluate

_FAMILIES: Final = (4, 6)


class Case(msgspec.Struct, frozen=True):
    """A question about ends that are there. A port of None: the protocol has none."""

    question: Question
    source: End
    destination: End
    ports: tuple[int | None, ...]

    @property
    def to_itself(self) -> bool:
        """Whether both ends are the same pod."""
        return self.source.pod is not None and self.source.pod == self.destination.pod

    @property
    def families(self) -> tuple[int, ...]:
        """The address families that both ends have."""
        ends = (self.source, self.destination)
        return tuple(f for f in _FAMILIES if all(end.address(f) for end in ends))


def case(seen: Snapshot, question: Question) -> Case:
    """What a question is about.

    Raises:
        QuestionError: it is about nothing that is there, or about nothing that policies decide.
    """
    if question.protocol not in PROTOCOLS:
        expected = ", ".join(PROTOCOLS)
        raise QuestionError(f"protocol {question.protocol!r}: expected one of {expected}")
    try:
        source, destination = resolve(seen, question.source), resolve(seen, question.destination)
    except UnknownEndError as error:
        raise QuestionError(str(error)) from error
    if source.pod is None and destination.pod is None:
        ends = f"neither {question.source} nor {question.destination}"
        raise QuestionError(f"{ends} is a pod of the network: no policy is about them")
    return Case(question, source, destination, tuple(_ports(seen, question, destination)))


def _ports(seen: Snapshot, question: Question, destination: End) -> Iterator[int | None]:
    protocol, text = question.protocol, question.port
    if protocol == "icmp":
        if text:
            raise QuestionError(f"port {text}: ICMP has no ports")
        yield None
        return
    if text.isdecimal():
        if not 0 < int(text) < 1 << 16:
            raise QuestionError(f"port {text}: expected a number from 1 to 65535")
        yield int(text)
        return
    declared = _declared(seen, destination.pod, protocol)
    if not text and declared:
        yield from dict.fromkeys(declared.values())
    elif text in declared:
        yield declared[text]
    elif text:
        has = f"it has {', '.join(filter(None, declared)) or 'none'}"
        raise QuestionError(f"{destination.name} has no {protocol} port named {text!r}; {has}")
    else:
        raise QuestionError(
            f"{destination.name} declares no {protocol} port: say which one is meant (--port)"
        )


def _declared(seen: Snapshot, pod: PodRef | None, protocol: str) -> dict[str, int]:
    """The ports of a protocol that a pod declares, by name, or by number where they have none."""
    if pod is None or pod not in seen.pods:
        return {}
    found: dict[str, int] = {}
    for port in seen.pods[pod].ports:
        if port.protocol.lower() == protocol:
            found.setdefault(port.name or str(port.port), port.port)
    return found


def switches(seen: Snapshot, about: Case) -> frozenset[str]:
    """The nodes on whose switches a connection is looked at."""
    found = set()
    for family in () if about.to_itself else about.families:
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
    answers = tuple(bench.answer(port, family) for port in about.ports for family in about.families)
    return Why(
        source=about.source.name,
        destination=about.destination.name,
        protocol=about.question.protocol,
        allowed=all(answer.allowed for answer in answers) if answers else None,
        agree=bool(answers) and all(answer.flows.agree for answer in answers),
        remarks=(*_remarks(about), *bench.remarks()),
        answers=answers,
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
        protocol = PROTOCOLS[self._about.question.protocol][_FAMILIES.index(family)]
        traffic = Traffic(source, destination, protocol, port)
        decided = evaluate(self._world, traffic)
        return Answer(
            family=f"IPv{family}",
            source=str(source),
            destination=str(destination),
            port=port,
            allowed=decided.allowed,
            egress=_decided(decided.egress),
            ingress=_decided(decided.ingress),
            flows=self._flows(traffic, decided, family),
        )

    def remarks(self) -> Iterator[str]:
        """What is to be known of the switches."""
        if self._about.question.protocol == "sctp":
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


def _decided(decision: Decision) -> Decided:
    return Decided(
        allowed=decision.allowed,
        reason=str(decision.reason),
        isolated_by=tuple(map(str, decision.isolating)),
        rules=tuple(map(str, decision.rules)),
    )


def _remarks(about: Case) -> Iterator[str]:
    """What is to be known of the ends, and why there are no answers if there are none."""
    source, destination = about.source, about.destination
    yield from source.remarks
    yield from destination.remarks if destination != source else ()
    if about.to_itself:
        yield "a pod speaks to itself without any switch"
    elif source.addresses and destination.addresses and not about.families:
        yield f"{source.name} and {destination.name} have no address family in common"
