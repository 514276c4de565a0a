"""Strategies: small clusters full of policies that matter to their pods, and traffic in them.

    @given(clusters().flatmap(lambda world: st.tuples(st.just(world), traffics(world))))

Values come from small pools, so that selectors select, blocks contain and ports fit often, and
just miss often too. What does not depend on a world is built once: building strategies takes
longer than drawing from them.
"""

from __future__ import annotations

from functools import cache
from ipaddress import ip_address, ip_network
from itertools import combinations, pairwise, product

from hypothesis import strategies as st
from msgspec.structs import replace
from policy_objects import labels, namespace, node, pod

from ovsnet.model import (
    Direction,
    IPBlock,
    NetworkPolicy,
    Operator,
    Phase,
    PolicyPeer,
    PolicyPort,
    PolicyRule,
    Protocol,
    Requirement,
    Selector,
)
from ovsnet.names import FIRST_POD_OFFSET
from ovsnet.policy.evaluate import Traffic
from ovsnet.policy.rules import NUMBERS
from ovsnet.policy.world import NodeName, World, addresses, in_network

NAMESPACES = ("bank", "lab", "shop")
LABELS = {"app": ("db", "web"), "tier": ("back", "front"), "env": ("live", "test")}
NAMESPACE_LABELS = {"team": ("a", "b"), "env": ("live", "test")}
NODES = tuple(map(node, (1, 2, 3)))

ICMP = {4: 1, 6: 58}
OUTSIDE = tuple(
    map(
        ip_address,
        ("203.0.113.5", "203.0.113.200", "198.51.100.1", "2001:db8::5", "2001:db8:1::5"),
    )
)
"""Addresses that belong to nobody in the cluster."""

PORT_SETS = (
    (),
    ("http=80",),
    ("http=8080", "dns=53/UDP"),
    ("http=8000", "http=8000/UDP", "dns=5353/UDP"),
    ("http=8080", "http=80"),
    ("http=443/SCTP", "dns=53", "dns=5353/UDP"),
)
"""What pods declare: numbers that differ under one name, protocols that differ, a name twice."""

MOST_PODS = 8
FIRST_HOST = FIRST_POD_OFFSET

_NUMBERS = (53, 80, 443, 5353, 8000, 8080)
_RANGES = ((1, 65535), (53, 80), (80, 80), (79, 443), (8000, 8079), (8000, 8080), (1024, 65535))


@st.composite
def clusters(draw, max_policies=5, sctp=True, shared_addresses=False):
    """A `World` of 2 or 3 nodes, 2 or 3 namespaces, 4 to 8 pods and up to `max_policies` policies.

    Some pods use the host's network, have ended (and may have left their address to another) or
    have no address yet; now and then a namespace is not known. With `shared_addresses` it
    happens that two live pods claim one address.
    """
    nodes = NODES[: draw(st.sampled_from((2, 3)))]
    spaces = NAMESPACES[: draw(st.sampled_from((2, 3)))]
    known = draw(st.sampled_from((spaces, spaces, spaces, spaces[1:])))
    fewest = draw(st.sampled_from((0, max_policies // 2, max_policies // 2)))
    drafts = draw(st.lists(_policies(sctp), min_size=fewest, max_size=max_policies))
    return World.of(
        [namespace(name, draw(_NAMESPACE_LABEL_TEXTS)) for name in known],
        [
            draw(_pods(number, len(nodes), spaces, shared_addresses))
            for number in range(draw(st.integers(4, MOST_PODS)))
        ],
        nodes,
        [make(number, spaces) for number, make in enumerate(drafts)],
    )


@st.composite
def changes(draw, world, max_policies=3, min_policies=0):
    """The `World` after a change: some policies gone, some new or rewritten, and some pods and
    namespaces with other labels. Pods keep their nodes and addresses.
    """
    policies = _policies(sctp=True)
    drafts = draw(st.lists(policies, min_size=min_policies, max_size=max_policies))
    spaces = tuple(dict.fromkeys(ref.namespace for ref in world.pods))
    kept = [p for p in world.policies.values() if draw(_MOSTLY)]
    pods = [
        pod if draw(_MOSTLY) else replace(pod, labels=labels(draw(_LABEL_TEXTS)))
        for pod in world.pods.values()
    ]
    namespaces = [
        space if draw(_MOSTLY) else namespace(space.name, draw(_NAMESPACE_LABEL_TEXTS))
        for space in world.namespaces.values()
    ]
    written = [make(number, spaces) for number, make in enumerate(drafts)]
    return World.of(namespaces, pods, world.nodes.values(), [*kept, *written])


def traffics(world, sctp=True):
    """`Traffic` between pods, nodes, the outside and addresses that nobody has, to ports at and
    beside those that policies and pods name.
    """
    ports = ports_to_try(world)
    numbers = [NUMBERS[p] for p in _protocols(sctp)]
    known = list(product(numbers, ports))
    choices = [
        (ends, wanted)
        for family in (4, 6)
        for ends in _pools_of_ends(world, family)
        for wanted in (known, known, [(ICMP[family], None)])
    ]
    return st.sampled_from(choices).flatmap(
        lambda choice: st.builds(
            lambda ends, wanted: Traffic(*ends, *wanted), *map(st.sampled_from, choice)
        )
    )


def _pools_of_ends(world, family):
    """Pairs of addresses in pools, most of them of a pod and another pod, node or stranger."""
    ours = [a for p in world.pods.values() if in_network(p) for a in p.addresses]
    others = [
        *(a for p in world.pods.values() if not in_network(p) for a in p.addresses),
        *(a for name in world.nodes for a in addresses(world, NodeName(name), family)),
        *OUTSIDE,
        *(r[200] for n in world.nodes.values() for r in n.pod_cidrs),
    ]
    ours = list(dict.fromkeys(a for a in ours if a.version == family))
    theirs = list(dict.fromkeys(a for a in others if a.version == family and a not in ours))
    between = [(a, b) for a in ours for b in ours if a != b]
    outward = list(product(ours, theirs))
    inward = list(product(theirs, ours))
    rest = [*((a, a) for a in ours), *pairwise(theirs)]
    pools = (between, between, between, between, outward, outward, inward, inward, rest)
    return [pool for pool in pools if pool]


def ports_to_try(world):
    """Ports that pods and policies name, and those beside them."""
    named = {port.port for p in world.pods.values() for port in p.ports}
    for policy in world.policies.values():
        for rule in (*policy.ingress, *policy.egress):
            for port in rule.ports or ():
                named |= {n for n in (port.port, port.end) if isinstance(n, int)}
    beside = {n + step for n in named for step in (-1, 1)}
    # Ports in the middle are tried more often than those that just miss.
    return [*sorted(named) * 2, *(n for n in sorted(beside) if 0 < n < 1 << 16), 7]


def _protocols(sctp):
    return (Protocol.TCP, Protocol.TCP, Protocol.UDP, *((Protocol.SCTP,) if sctp else ()))


def _label_texts(pool):
    """Labels as text, each key with one of its values or, more rarely, without."""
    choices = (("", *(f"{key}={value}" for value in values)) for key, values in pool.items())
    return st.sampled_from([";".join(texts) for texts in product(*choices)])


_LABEL_TEXTS = _label_texts(LABELS)
_NAMESPACE_LABEL_TEXTS = _label_texts(NAMESPACE_LABELS)
_PORT_SETS = st.sampled_from(PORT_SETS)
_KINDS = st.sampled_from(("plain",) * 7 + ("host", "ended", "unaddressed"))
_MOSTLY = st.sampled_from((True, True, True, False))
_ENDINGS = st.sampled_from((Phase.SUCCEEDED, Phase.FAILED))


@st.composite
def _pods(draw, number, node_count, spaces, shared_addresses):
    kind = draw(_KINDS)
    host = number + FIRST_HOST
    if kind == "ended" or shared_addresses:
        host = draw(st.sampled_from((host, FIRST_HOST, FIRST_HOST + 1)))
    return pod(
        f"{draw(st.sampled_from(spaces))}/pod-{number}",
        draw(_LABEL_TEXTS),
        node=draw(st.integers(1, node_count)),
        host=None if kind == "unaddressed" else host,
        ports=draw(_PORT_SETS),
        host_network=kind == "host",
        phase=draw(_ENDINGS) if kind == "ended" else Phase.RUNNING,
    )


def _networks():
    """Networks for ipBlocks: of everything, pods, ranges, nodes by all of their addresses, and the
    outside.
    """
    wide = (
        *("0.0.0.0/0", "10.244.0.0/16", "172.18.0.0/16", "203.0.113.0/24", "203.0.113.128/25"),
        *("::/0", "fd00:10:244::/48", "fd00:172:18::/64", "2001:db8::/32", "2001:db8::/48"),
    )
    ranges = [r for n in NODES for r in n.pod_cidrs]
    # The halves of a range's first 8 addresses, where the gateway and most pods are.
    halves = [
        half
        for r in ranges
        for half in ip_network((r.network_address, r.max_prefixlen - 3)).subnets()
    ]
    single = [
        *(r[own] for r in ranges for own in range(1, FIRST_HOST)),
        *(a for n in NODES for a in n.addresses),
        *OUTSIDE,
        *(r[host] for r in ranges for host in range(FIRST_HOST, FIRST_HOST + 4)),
    ]
    return [*map(ip_network, wide), *ranges, *halves, *map(ip_network, single)]


_NETWORKS = _networks()


def _exceptions(cidr):
    inside = [n for n in _NETWORKS if n.version == cidr.version and n != cidr and n.subnet_of(cidr)]
    return st.lists(st.sampled_from(inside), max_size=2, unique=True) if inside else st.just([])


_BLOCKS = st.sampled_from([(cidr, _exceptions(cidr)) for cidr in _NETWORKS]).flatmap(
    lambda choice: choice[1].map(
        lambda exceptions: PolicyPeer(ip_block=IPBlock(choice[0], tuple(exceptions)))
    )
)


def _selectors(pool):
    """Selectors over a pool of labels, most of them of one condition."""
    pairs = [(key, value) for key, values in pool.items() for value in values]
    requirements = [
        *(
            Requirement(key, operator, values)
            for key, values in pool.items()
            for operator in (Operator.IN, Operator.NOT_IN)
            for values in ((values[0],), (values[1],), values)
        ),
        *(
            Requirement(key, operator)
            for key in pool
            for operator in (Operator.EXISTS, Operator.DOES_NOT_EXIST)
        ),
    ]
    equal = [Selector(labels=(pair,)) for pair in pairs]
    compared = [Selector(expressions=(requirement,)) for requirement in requirements]
    mixed = [Selector((pair,), (requirement,)) for pair in pairs for requirement in requirements]
    double = [
        Selector(labels=tuple(sorted(two))) for two in combinations(pairs, 2) if len(dict(two)) > 1
    ]
    double += [Selector(expressions=tuple(sorted(two))) for two in combinations(requirements, 2)]
    pools = [[Selector()], equal, compared, [*mixed, *double]]
    return st.sampled_from(pools).flatmap(st.sampled_from)


_POD_SELECTORS = _selectors(LABELS)
_SUBJECTS = st.one_of(st.just(Selector()), _POD_SELECTORS)
_NAMESPACE_SELECTORS = st.one_of(
    _selectors(NAMESPACE_LABELS),
    st.sampled_from(
        [Selector(labels(f"kubernetes.io/metadata.name={name}")) for name in NAMESPACES]
    ),
)
_PEERS = st.one_of(
    st.builds(PolicyPeer, pods=_POD_SELECTORS),
    st.builds(PolicyPeer, namespaces=_NAMESPACE_SELECTORS),
    st.builds(PolicyPeer, pods=_POD_SELECTORS, namespaces=_NAMESPACE_SELECTORS),
    _BLOCKS,
)


def _policy_ports(sctp):
    spans = ((None,), *((n,) for n in _NUMBERS), ("http",), ("http",), ("dns",), *_RANGES)
    return st.sampled_from([PolicyPort(p, *span) for p in _protocols(sctp) for span in spans])


def _some(values):
    """Values of a rule's field: mostly some, often absent, rarely none that was understood."""
    some = st.lists(values, min_size=1, max_size=3).map(tuple)
    return st.one_of(some, some, some, st.none(), st.none(), st.sampled_from((None, ())))


_BOTH = (Direction.INGRESS, Direction.EGRESS)
# Now and then there are rules of a direction that the policy does not name, to no effect.
_DIRECTIONS = st.sampled_from(
    [(_BOTH, _BOTH), *((one, one) for one in combinations(_BOTH, 1)), (_BOTH[:1], _BOTH)]
)


@cache
def _policies(sctp):
    """Functions from a number and the namespaces to a policy."""
    rule = st.builds(PolicyRule, peers=_some(_PEERS), ports=_some(_policy_ports(sctp)))
    rules = st.lists(rule, max_size=2).map(tuple)
    return st.builds(_draft, st.integers(0, 5), _SUBJECTS, _DIRECTIONS, rules, rules)


def _draft(place, pods, directions, ingress, egress):
    isolated, written = directions

    def make(number, spaces):
        space = spaces[place % len(spaces)]
        return NetworkPolicy(
            space,
            f"policy-{number}",
            uid=f"uid-of-{space}-policy-{number}",
            pods=pods,
            directions=frozenset(isolated),
            ingress=ingress if Direction.INGRESS in written else (),
            egress=egress if Direction.EGRESS in written else (),
        )

    return make
