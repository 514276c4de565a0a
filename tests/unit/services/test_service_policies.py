"""NetworkPolicy and services together: policies see the endpoint, and the client or, where its
source is translated, its node's service address.
"""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from policy_objects import block, policy, port, rule
from policy_scenes import PODS, SPACES
from policy_scenes import SCENES as POLICIES
from policy_strategies import clusters
from service_agreement import answer, disagreement, opening
from service_carriage import Arrival, ServiceCarriage, ends
from service_objects import call, endpoint_slice, node, outside_at, process_on, service
from service_scenes import NODES

from ovsnet.flows.simulator.packet import ACK, SYN
from ovsnet.model import IPAddress, NetworkPolicy, Pod, PolicyRule, Protocol, parse_address
from ovsnet.names import SERVICE_OFFSET
from ovsnet.policy.evaluate import Traffic
from ovsnet.policy.evaluate import evaluate as judge
from ovsnet.policy.rules import NUMBERS
from ovsnet.policy.world import World as Cluster
from ovsnet.policy.world import in_network
from ovsnet.services.evaluate import Served, evaluate
from ovsnet.services.world import Call, Client, Whence, World

WEB, DB, FAR = "10.244.1.7", "10.244.1.3", "10.244.2.4"
CLUSTER = {4: "10.96.0.1", 6: "[fd00:96::1]"}


def in_front_of(addresses: list[IPAddress]) -> World:
    """A world whose one service has these endpoints; its ports lead to others of theirs."""
    ports = ("http=8080", "db=5432", "dns=53/UDP")
    front = service(
        "shop/front", "http=80@30080", "db=81", "dns=82/UDP", cluster="10.96.0.1 fd00:96::1"
    )
    slices = (
        endpoint_slice(
            "shop/front", ports, *(str(a) for a in addresses if a.version == v), name=f"v{v}"
        )
        for v in (4, 6)
    )
    return World.of(NODES, [front], slices)


def pods_in(of: Cluster) -> list[Pod]:
    """The pods that are on a switch."""
    return [p for p in of.pods.values() if in_network(p) and p.addresses and p.node in of.nodes]


def pod_addresses(of: Cluster) -> list[IPAddress]:
    return [address for pod in pods_in(of) for address in pod.addresses]


def service_calls(of: Cluster) -> list[Call]:
    """Calls of the service from pods, nodes and outside."""
    clients = [Client(Whence.POD, p.node, a) for p in pods_in(of) for a in p.addresses]
    for number in (1, 2):
        clients += [process_on(number), outside_at(number), process_on(number, 6)]
    found = [
        call(c, f"{CLUSTER[c.address.version]}:{rest}")
        for c in clients
        for rest in ("80", "81", "82/UDP")
    ]
    return [*found, call(outside_at(1), "10.244.1.255:30080")]


def misjudged(guarded: ServiceCarriage, unguarded: ServiceCarriage, tried: Call) -> list[str]:
    """Endpoints that a call reaches against the policies' will, or does not reach though they allow
    it. `unguarded` are the switches without policies.
    """
    assert tried.protocol is not None
    found = []
    for way in unguarded.ways(*opening(unguarded, tried)):
        (arrival,) = unguarded.alone().carry(*opening(unguarded, tried), way).arrivals
        seen, endpoint = ends(arrival.packet)
        assert seen.address in (tried.client.address, *service_addresses(tried))
        traffic = Traffic(seen.address, endpoint.address, NUMBERS[tried.protocol], endpoint.port)
        verdict = judge(guarded.world, traffic)
        alone = guarded.alone()
        passed = alone.carry(*opening(alone, tried), way).arrivals
        if passed != ((arrival,) if verdict.allowed else ()):
            found.append(f"{tried} as {seen} to {endpoint}: {passed} while {verdict}")
        elif passed:
            back = alone.carry(*arrival.where, answer(tried.protocol, arrival.packet)).arrivals
            if [a.where for a in back] != [alone.door(tried.client)]:
                found.append(f"the answer of {endpoint} to {tried}: {back}")
    return found


def service_addresses(tried: Call) -> list[IPAddress]:
    """The service addresses of the client's node."""
    return [r[SERVICE_OFFSET] for r in node(int(tried.client.node[-1])).pod_cidrs]


@cache
def unguarded() -> ServiceCarriage:
    return guarded_by(())


def guarded_by(policies: tuple[NetworkPolicy, ...]) -> ServiceCarriage:
    pods = Cluster.of(SPACES, PODS, NODES, ())
    return ServiceCarriage.serving(in_front_of(pod_addresses(pods)), PODS, SPACES, policies)


@pytest.mark.parametrize(
    "name",
    [
        "no policy",
        "deny ingress",
        "deny egress",
        "deny both, one pod",
        "pods of the own namespace",
        "a namespace",
        "egress to pods",
        "a block",
        "exceptions",
        "a port",
        "peer and port",
        "both directions of one connection",
    ],
)
def test_policies_judge_calls_of_services_by_their_endpoints(name: str) -> None:
    carriage = guarded_by(tuple(POLICIES[name]))
    tried = service_calls(carriage.world)
    assert [wrong for t in tried for wrong in misjudged(carriage, unguarded(), t)] == []


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(clusters(), st.randoms(use_true_random=False))
def test_policies_drawn_at_random_judge_calls_by_their_endpoints(cluster, random) -> None:
    of = Cluster.of(
        cluster.namespaces.values(), cluster.pods.values(), NODES, cluster.policies.values()
    )
    addresses = pod_addresses(of)
    assume(addresses)
    world = in_front_of(addresses)
    carriage = ServiceCarriage.of_network(world, of)
    calm = ServiceCarriage.of_network(
        world, Cluster.of(of.namespaces.values(), of.pods.values(), NODES, ())
    )
    tried = [t for t in service_calls(of) if isinstance(evaluate(world, t), Served)]
    some = random.sample(tried, min(len(tried), 8))
    assert [wrong for t in some for wrong in misjudged(carriage, calm, t)] == []


# --- in words ---


def front(*endpoints: str) -> World:
    """A service with these endpoints at port 8080."""
    return World.of(
        NODES,
        [service("shop/front", "http=80@30080")],
        [endpoint_slice("shop/front", ("http=8080",), *endpoints)],
    )


def arrives(world: World, tried: Call, *policies: NetworkPolicy) -> bool:
    """Whether a call is taken and answered, under these policies."""
    carriage = ServiceCarriage.serving(world, PODS, SPACES, policies)
    return bool(_answered(carriage, tried))


def _answered(carriage: ServiceCarriage, tried: Call, flags: int = SYN) -> tuple[Arrival, ...]:
    arrivals = carriage.carry(*opening(carriage, tried, flags=flags)).arrivals
    if not arrivals or arrivals[0].refused:
        return ()
    back = answer(Protocol.TCP, arrivals[0].packet)
    return carriage.carry(*arrivals[0].where, back).arrivals


OF_WEB = call(Client(Whence.POD, "node-1", parse_address(WEB)), "10.96.0.1:80")


def test_egress_is_allowed_to_endpoints_and_not_to_the_services_address() -> None:
    for cidr, number, allowed in (
        (f"{FAR}/32", 8080, True),
        (f"{FAR}/32", 80, False),
        ("10.96.0.1/32", 80, False),
        ("10.96.0.1/32", 8080, False),
    ):
        one = policy("shop/p", "app=web", egress=[rule([block(cidr)], [port(number)])])
        assert arrives(front(FAR), OF_WEB, one) is allowed


def test_ingress_from_outside_is_judged_by_the_client_where_it_is_seen() -> None:
    """By the endpoint's own node the client's address; by another one that node's service address,
    which by the pod's own node is always allowed.
    """
    allowed = policy("shop/p", ingress=[rule([block("203.0.113.0/24")])])
    other = policy("shop/p", ingress=[rule([block("198.51.100.0/24")])])
    through = policy("shop/p", ingress=[rule([block("10.244.1.2/32")])])
    near, far = call(outside_at(1), "10.244.1.255:30080"), call(outside_at(2), "10.244.2.255:30080")
    for one, here, there in ((allowed, True, False), (other, False, False), (through, False, True)):
        assert arrives(front(DB), near, one) is here
        assert arrives(front(FAR), near, one) is there
    assert arrives(front(DB), far, policy("shop/p", ingress=[rule([block("10.244.2.2/32")])]))


def test_a_pod_that_nobody_may_call_reaches_itself_through_its_service() -> None:
    """NetworkPolicy cannot keep a pod from itself."""
    alone = policy("shop/p", ingress=[], egress=[])
    assert arrives(front(WEB), OF_WEB, alone)
    assert not arrives(front(DB), OF_WEB, alone)


def test_endpoints_on_nodes_are_judged_as_addresses_but_for_the_pods_own_node() -> None:
    alone = policy("shop/p", "app=web", egress=[])
    assert arrives(front("172.18.0.1"), OF_WEB, alone)
    assert not arrives(front("172.18.0.2"), OF_WEB, alone)
    some = policy("shop/p", "app=web", egress=[rule([block("172.18.0.0/24")])])
    assert arrives(front("172.18.0.2"), OF_WEB, some)


def test_no_policy_is_asked_about_calls_that_are_refused() -> None:
    alone = policy("shop/p", "app=web", egress=[])
    carriage = ServiceCarriage.serving(front(), PODS, SPACES, [alone])
    assert disagreement(carriage, OF_WEB) is None
    (arrival,) = carriage.carry(*opening(carriage, OF_WEB)).arrivals
    assert arrival.refused


@pytest.mark.parametrize("forbid", [{"ingress": []}, {"egress": []}])
@pytest.mark.parametrize("there", [DB, FAR])
def test_a_policy_ends_live_connections_through_services_in_both_directions(
    there: str, forbid: dict[str, list[PolicyRule]]
) -> None:
    subject = (
        "app=web; tier=front" if "egress" in forbid else "tier=back" if there == FAR else "app=db"
    )
    calm = ServiceCarriage.serving(front(there), PODS, SPACES)
    strict = ServiceCarriage.serving(
        front(there), PODS, SPACES, [policy("shop/p", subject, **forbid)]
    )
    (first,) = calm.carry(*opening(calm, OF_WEB)).arrivals
    back = answer(Protocol.TCP, first.packet)
    assert len(calm.carry(*first.where, back).arrivals) == 1
    strict.trackers = dict(calm.trackers)
    assert not strict.carry(*opening(strict, OF_WEB, flags=ACK)).arrivals
    assert not strict.carry(*first.where, back).arrivals
    calm.trackers = dict(strict.trackers)
    (again,) = calm.carry(*opening(calm, OF_WEB, flags=ACK)).arrivals
    assert (again.where, ends(again.packet)) == (first.where, ends(first.packet))
    assert len(calm.carry(*first.where, back).arrivals) == 1
