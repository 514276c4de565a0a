"""Asking the evaluator who reaches whom, in words and in both address families."""

from ipaddress import ip_address

from ovsnet.model import PodRef
from ovsnet.policy.evaluate import Traffic, Verdict, evaluate
from ovsnet.policy.world import End, NodeName, World, addresses

TCP, UDP, SCTP, ICMP = "TCP", "UDP", "SCTP", "ICMP"
OUTSIDE = {4: "203.0.113.5", 6: "2001:db8::5"}

_NUMBERS = {TCP: (6, 6), UDP: (17, 17), SCTP: (132, 132), ICMP: (1, 58)}


def end(text: str, family: int) -> End:
    """An end: `outside`, `node/NAME`, `namespace/pod` or an address."""
    if text == "outside":
        return ip_address(OUTSIDE[family])
    first, slash, second = text.partition("/")
    if not slash:
        return ip_address(first)
    return NodeName(second) if first == "node" else PodRef(first, second)


def verdict(
    world: World,
    source: str,
    destination: str,
    port: int | None = 80,
    protocol: str = TCP,
    family: int = 4,
) -> Verdict:
    """The verdict about traffic between the first addresses of two ends."""
    one, other = (addresses(world, end(text, family), family)[0] for text in (source, destination))
    number = _NUMBERS[protocol][family == 6]
    return evaluate(world, Traffic(one, other, number, None if protocol == ICMP else port))


def reaches(
    world: World,
    source: str,
    destination: str,
    port: int | None = 80,
    protocol: str = TCP,
    families: tuple[int, ...] = (4, 6),
) -> bool:
    """Whether traffic is allowed; it has to be the same in all these families."""
    found = {
        verdict(world, source, destination, port, protocol, family).allowed for family in families
    }
    assert len(found) == 1, f"{source} to {destination}: not the same in both families"
    return found.pop()
