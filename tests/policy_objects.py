"""Clusters and policies from few words, for tests.

A selector in words: conditions with `;` between them, of `app=web`, `app in web api`,
`app notin web api`, `has app` and `lacks app`. The empty text is the empty selector; None is an
absent one.
"""

from collections.abc import Iterable
from ipaddress import ip_address, ip_network

from ovsnet.model import (
    ContainerPort,
    Direction,
    IPBlock,
    Namespace,
    NetworkPolicy,
    Node,
    Operator,
    Phase,
    Pod,
    PolicyPeer,
    PolicyPort,
    PolicyRule,
    Protocol,
    Requirement,
    Selector,
)

_PREFIXES = {"has": Operator.EXISTS, "lacks": Operator.DOES_NOT_EXIST}
_INFIXES = {"in": Operator.IN, "notin": Operator.NOT_IN}


def labels(text: str) -> tuple[tuple[str, str], ...]:
    """Labels from `app=web; tier=front`."""
    pairs = (part.split("=", 1) for part in text.split(";") if part.strip())
    return tuple(sorted((key.strip(), value.strip()) for key, value in pairs))


def select(text: str) -> Selector:
    """A selector from its words; see the top of this module."""
    equal, expressions = [], []
    for condition in (part.strip() for part in text.split(";")):
        first, *rest = condition.split() or [""]
        if first in _PREFIXES:
            expressions.append(Requirement(rest[0], _PREFIXES[first]))
        elif rest:
            expressions.append(Requirement(first, _INFIXES[rest[0]], tuple(sorted(rest[1:]))))
        elif condition:
            equal.append(condition)
    return Selector(labels(";".join(equal)), tuple(sorted(expressions)))


def namespace(name: str, text: str = "") -> Namespace:
    """A namespace with the label that the API server sets, and those of the text."""
    return Namespace(name, labels(f"kubernetes.io/metadata.name={name};{text}"))


def node(number: int) -> Node:
    """`node-N` with the pod ranges 10.244.N.0/24 and fd00:10:244:N::/64, at 172.18.0.N."""
    return Node(
        f"node-{number}",
        uid=f"uid-of-node-{number}",
        pod_cidrs=(ip_network(f"10.244.{number}.0/24"), ip_network(f"fd00:10:244:{number}::/64")),
        addresses=(ip_address(f"172.18.0.{number}"), ip_address(f"fd00:172:18::{number}")),
    )


def container_port(text: str) -> ContainerPort:
    """A declared port from `http=8080` or `dns=53/UDP`."""
    name, _, rest = text.partition("=")
    number, _, protocol = rest.partition("/")
    return ContainerPort(name, int(number), protocol or "TCP")


def pod(
    name: str,
    text: str = "",
    *,
    node: int = 1,
    host: int | None = 3,
    ports: Iterable[str] = (),
    host_network: bool = False,
    phase: Phase = Phase.RUNNING,
) -> Pod:
    """The pod `namespace/name` with the labels of the text and its node's addresses number `host`.

    Without a host number it has no address yet; a hostNetwork pod reports its node's.
    """
    space, short = name.split("/")
    if host_network:
        found = (f"172.18.0.{node}", f"fd00:172:18::{node}")
    elif host is None:
        found = ()
    else:
        found = (f"10.244.{node}.{host}", f"fd00:10:244:{node}::{host:x}")
    return Pod(
        space,
        short,
        uid=f"uid-of-{space}-{short}",
        node=f"node-{node}",
        labels=labels(text),
        addresses=tuple(map(ip_address, found)),
        ports=tuple(map(container_port, ports)),
        host_network=host_network,
        phase=phase,
    )


def peer(pods: str | None = None, namespaces: str | None = None) -> PolicyPeer:
    """Pods by selectors in words; None is an absent selector."""
    return PolicyPeer(
        pods=None if pods is None else select(pods),
        namespaces=None if namespaces is None else select(namespaces),
    )


def block(cidr: str, *exceptions: str) -> PolicyPeer:
    """An ipBlock as a peer."""
    return PolicyPeer(ip_block=IPBlock(ip_network(cidr), tuple(map(ip_network, exceptions))))


def port(
    number: int | str | None = None,
    end: int | None = None,
    protocol: Protocol = Protocol.TCP,
) -> PolicyPort:
    """A port of a rule: a number, a range, a name, or all of the protocol's."""
    return PolicyPort(protocol, number, end)


def rule(
    peers: Iterable[PolicyPeer] | None = None, ports: Iterable[PolicyPort] | None = None
) -> PolicyRule:
    """A rule; None is a field that the API's object leaves out, which means any."""
    return PolicyRule(
        peers=None if peers is None else tuple(peers), ports=None if ports is None else tuple(ports)
    )


def policy(
    name: str,
    pods: str = "",
    *,
    ingress: Iterable[PolicyRule] | None = None,
    egress: Iterable[PolicyRule] | None = None,
    directions: Iterable[Direction] | None = None,
) -> NetworkPolicy:
    """The policy `namespace/name` for the pods that the words select.

    It isolates in the directions that have rules here, be they none, unless others are named.
    """
    space, short = name.split("/")
    given = ((Direction.INGRESS, ingress), (Direction.EGRESS, egress))
    if directions is None:
        directions = [direction for direction, rules in given if rules is not None]
    return NetworkPolicy(
        space,
        short,
        uid=f"uid-of-{space}-{short}",
        pods=select(pods),
        directions=frozenset(directions),
        ingress=tuple(ingress or ()),
        egress=tuple(egress or ()),
    )
