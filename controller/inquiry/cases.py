"""What a question is about: two ends that are there, the ports that are meant, and the services
that take what is sent to these.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from ovsnet.controller.inquiry.calls import ServiceCall, service_call
from ovsnet.controller.inquiry.ends import End, UnknownEndError, resolve
from ovsnet.controller.inquiry.questions import PROTOCOLS, Question, QuestionError
from ovsnet.controller.inquiry.world import Snapshot
from ovsnet.model import PodRef, Protocol, Service, ServicePort, parse_address

_FAMILIES: Final = (4, 6)
_DEFAULT: Final = "tcp"


class Case(msgspec.Struct, frozen=True):
    """A question about ends that are there. A port of None: the protocol has none.

    `calls` are taken by services; `others` are the ports and address families for which policies
    decide about the ends themselves: the way of a pod's call to another node is among them.
    """

    question: Question
    protocol: str
    source: End
    destination: End
    calls: tuple[ServiceCall, ...] = ()
    others: tuple[tuple[int | None, int], ...] = ()

    @property
    def to_itself(self) -> bool:
        """Whether both ends are the same pod."""
        return self.source.pod is not None and self.source.pod == self.destination.pod

    @property
    def families(self) -> tuple[int, ...]:
        """The address families that both ends have."""
        return _families(self.source, self.destination)


def case(seen: Snapshot, question: Question) -> Case:
    """What a question is about.

    Raises:
        QuestionError: it is about nothing that is there, or about nothing that policies decide.
    """
    if question.protocol and question.protocol not in PROTOCOLS:
        expected = ", ".join(PROTOCOLS)
        raise QuestionError(f"protocol {question.protocol!r}: expected one of {expected}")
    try:
        source, destination = resolve(seen, question.source), resolve(seen, question.destination)
    except UnknownEndError as error:
        raise QuestionError(str(error)) from error
    if source.service is not None:
        raise QuestionError(f"{question.source} calls nobody: name a pod, a node or an address")
    service = None if destination.service is None else seen.services[destination.service]
    if service is None:
        protocol = question.protocol or _DEFAULT
        ports = tuple(_ports(seen, question, protocol, destination))
    else:
        protocol, ports = _service_ports(service, question)
    called = _as_called(seen, destination)
    calls = tuple(_calls(seen, source, called, protocol, ports))
    if calls:
        destination = called
    elif source.pod is None and destination.pod is None:
        ends = f"neither {question.source} nor {question.destination}"
        raise QuestionError(f"{ends} is a pod of the network: no policy is about them")
    taken = [made.call for made in calls if not (made.relayed and source.pod)]
    by_services = {(call.port, call.destination.version) for call in taken}
    every = ((port, family) for port in ports for family in _families(source, destination))
    others = tuple(each for each in every if each not in by_services)
    return Case(question, protocol, source, destination, calls, others)


def _families(source: End, destination: End) -> tuple[int, ...]:
    return tuple(f for f in _FAMILIES if all(end.address(f) for end in (source, destination)))


def _as_called(seen: Snapshot, destination: End) -> End:
    """A node that is named, by its own addresses, which have its node ports."""
    if destination.pod is not None or not destination.node or _is_address(destination.name):
        return destination
    own = seen.nodes[destination.node].node.addresses
    first = {address.version: address for address in reversed(own)}
    return msgspec.structs.replace(destination, addresses=tuple(first[v] for v in sorted(first)))


def _is_address(text: str) -> bool:
    try:
        parse_address(text)
    except ValueError:
        return False
    return True


def _calls(
    seen: Snapshot, source: End, destination: End, protocol: str, ports: Iterable[int | None]
) -> Iterator[ServiceCall]:
    if source.pod is not None and source.pod == destination.pod:
        return
    named = Protocol(protocol.upper()) if protocol.upper() in Protocol.__members__ else None
    for port in ports:
        for family in _families(source, destination):
            address = destination.address(family)
            assert address is not None
            made = service_call(seen, source, address, named, port)
            if made is not None:
                yield made


def _ports(
    seen: Snapshot, question: Question, protocol: str, destination: End
) -> Iterator[int | None]:
    text = question.port
    if protocol == "icmp":
        _expect_no_port(question)
        yield None
        return
    if text.isdecimal():
        yield _number(text)
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


def _expect_no_port(question: Question) -> None:
    if question.port:
        raise QuestionError(f"port {question.port}: ICMP has no ports")


def _number(text: str) -> int:
    if not 0 < int(text) < 1 << 16:
        raise QuestionError(f"port {text}: expected a number from 1 to 65535")
    return int(text)


def _declared(seen: Snapshot, pod: PodRef | None, protocol: str) -> dict[str, int]:
    """The ports of a protocol that a pod declares, by name, or by number where they have none."""
    if pod is None or pod not in seen.pods:
        return {}
    found: dict[str, int] = {}
    for port in seen.pods[pod].ports:
        if port.protocol.lower() == protocol:
            found.setdefault(port.name or str(port.port), port.port)
    return found


def _service_ports(service: Service, question: Question) -> tuple[str, tuple[int | None, ...]]:
    """The protocol and the port of a service that are meant. A number may be one that it does not
    have.
    """
    asked, text = question.protocol, question.port
    if asked == "icmp":
        _expect_no_port(question)
        return asked, (None,)
    number = _number(text) if text.isdecimal() else 0
    found = [
        port
        for port in service.ports
        if asked in ("", port.protocol.lower()) and text in ("", port.name, str(port.port))
    ]
    if number and not found:
        return asked or _DEFAULT, (number,)
    if len(found) != 1:
        raise QuestionError(_which(service, question, found))
    return found[0].protocol.lower(), (found[0].port,)


def _which(service: Service, question: Question, found: list[ServicePort]) -> str:
    what = " ".join(filter(None, (question.protocol, "port", question.port)))
    many = f"more than one {what}" if found else f"no {what}"
    listed = ", ".join(f"{p.name or p.port}={p.port}/{p.protocol}" for p in service.ports)
    return (
        f"service {service.ref} has {many}: say which one is meant (--port, --protocol); "
        f"it has {listed or 'none'}"
    )
