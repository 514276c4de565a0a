"""Connections through services while everything around them changes: they keep their endpoint, and
end or move when that is what a change is about.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import pytest
from calling import REFUSED, SILENT, Ring, ring
from market import FAMILIES, SPACE, Market, Object
from places import wait_for
from service_objects import endpoint, endpoint_slice, service
from talking import LATELY, Talk, talks

from ovsnet.model import EndpointSlice, Service

CHANGES = 100
MOST_LOST = 10
"""Less than that of a talk is lost when it moves."""

POLICIES = f"/apis/networking.k8s.io/v1/namespaces/{SPACE}/networkpolicies"
BEHIND = ("http=8080", "dns=8053/UDP")
HOSTS = {"a": 5, "b": 6, "c": 7}
WEB = service("shop/web", "http=80@30080", "dns=53@30080/UDP", cluster="10.96.0.1 fd00:96::1")
OTHER = service("shop/other", "http=80@30081", "dns=53@30081/UDP", cluster="10.96.0.2")


def pods(
    *names: str, state: str = "ready", of: Service = WEB, name: str = "a"
) -> tuple[EndpointSlice, ...]:
    """Slices of a service in both families: `a1` is the pod a on node1. Their names end with the
    family.
    """
    found = []
    for version, base in ((4, "10.244.{}.{}"), (6, "fd00:10:244:{}::{}")):
        addresses = (base.format(one[1], HOSTS[one[0]]) for one in names)
        ends = (endpoint(address, state) for address in addresses)
        found.append(endpoint_slice(str(of.ref), BEHIND, *ends, name=f"{name}{version}"))
    return tuple(found)


def wire(market: Market, *values: Service | EndpointSlice) -> list[Object]:
    """Objects of the API; slices without endpoints are of the family that their names say."""
    found = market.wire(*values)
    for each in found:
        if each["kind"] == "EndpointSlice":
            each["addressType"] = f"IPv{each['metadata']['name'][-1]}"
    return found


def serve(market: Market, *values: Service | EndpointSlice) -> None:
    market.serve(*wire(market, *values))


def addresses(market: Market, of: Service = WEB) -> dict[int, str]:
    return {a.version: str(a) for a in market.world().services[of.ref].addresses}


def calls(market: Market) -> list[Ring]:
    """Calls of WEB by both protocols in both families: by pods on two nodes, by a node, and by the
    outside through a third node.
    """
    doors = {version: market.lab.underlay("node3").address(version) for version in FAMILIES}
    callers = [
        (place, addresses(market), {"tcp": 80, "udp": 53})
        for place in (market.pods["c1"], market.pods["c2"], market.nodes["node1"])
    ]
    callers.append((market.outside, doors, {"tcp": 30080, "udp": 30080}))
    return [
        Ring(place, protocol, called[version], ports[protocol])
        for place, called, ports in callers
        for protocol in ("tcp", "udp")
        for version in FAMILIES
    ]


def of_protocol(spoken: list[Talk], protocol: str) -> list[Talk]:
    return [talk for talk in spoken if talk.ring.protocol == protocol]


def goes_on(talk: Talk, *who: str) -> bool:
    return bool(talk.lately()) and talk.lately() <= set(who)


# --- endpoints that come and go ---


def test_talks_stay_and_lose_nothing_while_others_come_and_go(market: Market) -> None:
    serve(market, WEB, *pods("a1", "a2", "a3"))
    with talks(calls(market)) as spoken:
        began = time.monotonic()
        others = [wire(market, *pods(*names, name="b")) for names in (("b1", "b2"), ("b3",), ())]
        another = wire(market, OTHER, *pods("b1", of=OTHER)[:1])
        for change in range(CHANGES):
            market.write(*others[change % 3])
            if change % 2:
                market.remove(*another)
            else:
                market.write(*another)
            if change == CHANGES // 2:
                market.lab.kill("controller")
            if change == CHANGES // 2 + 8:
                market.lab.start("controller")
        market.settle(60)
        ended = time.monotonic()
        time.sleep(LATELY)
    assert all(talk.said(began, ended) > 200 for talk in spoken)
    assert [len(set(talk.answered.values())) for talk in spoken] == [1] * len(spoken)
    assert [talk.lost(began, ended) for talk in spoken] == [[]] * len(spoken)


def test_an_endpoint_goes(market: Market) -> None:
    """UDP moves to another one; TCP is let drain, while it terminates and when it is gone."""
    gone, rest = "a1", "b2"
    serve(market, WEB, *pods(gone), *pods(rest, name="b"))
    with talks(calls(market)) as spoken:
        theirs = [talk.lately() for talk in spoken]
        began = time.monotonic()
        serve(market, *pods(gone, state="draining"))
        wait_for(
            lambda: all(goes_on(talk, rest) for talk in of_protocol(spoken, "udp")),
            "all UDP to be with the endpoint that is left",
        )
        moved = time.monotonic()
        assert {heard.who for heard in ring(calls(market) * 3)} == {rest}
        serve(market, *pods())
        settled = time.monotonic()
        time.sleep(LATELY)
        ended = time.monotonic()
        time.sleep(LATELY)
    assert {frozenset(who) for who in theirs} == {frozenset({gone}), frozenset({rest})}
    for talk, before in zip(spoken, theirs, strict=True):
        moves = talk.ring.protocol == "udp" and before == {gone}
        assert talk.since(settled) == ({rest} if moves else before)
        # An answer that is under way when the tracker is made to forget the connection is lost.
        lost = talk.lost(began, ended)
        assert len(lost) < MOST_LOST if moves else not lost, f"{talk.ring} with {before}: {lost}"
        assert not talk.lost(moved, ended)


def test_the_last_endpoint_goes_and_one_comes(market: Market) -> None:
    serve(market, WEB, *pods("a2"))
    made = calls(market)
    with talks(made) as spoken:
        assert {heard.who for heard in ring(made)} == {"a2"}
        serve(market, *pods())
        assert set(ring(made)) == {REFUSED}
        udp = of_protocol(spoken, "udp")
        wait_for(lambda: all(not talk.lately() and talk.ended for talk in udp), "UDP to be refused")
        assert all(isinstance(talk.ended, ConnectionRefusedError) for talk in udp)
        assert all(goes_on(talk, "a2") for talk in of_protocol(spoken, "tcp"))
        serve(market, *pods("b1"))
        assert {heard.who for heard in ring(made)} == {"b1"}
        wait_for(lambda: all(goes_on(talk, "b1") for talk in udp), "UDP to be served again")


def test_a_service_goes_and_its_connections_with_it(market: Market) -> None:
    """TCP that came by a node port is let drain: that door leads to the switch for ever."""
    serve(market, WEB, OTHER, *pods("a1", "a2"), *pods("a2", of=OTHER)[:1])
    other = Ring(market.pods["c1"], "tcp", addresses(market, OTHER)[4], 80)
    with talks([*calls(market), other]) as spoken:
        market.remove(*wire(market, WEB))
        market.settle()
        settled = time.monotonic()
        time.sleep(LATELY)
        *others, kept = spoken
        assert kept.since(settled) == {"a2"}
        drains = [t for t in of_protocol(others, "tcp") if t.ring.place == market.outside]
        assert len(drains) == len(FAMILIES)
        assert all(talk.since(settled) for talk in drains)
        ended = [talk for talk in others if talk not in drains]
        assert [talk.since(settled) for talk in ended] == [set()] * len(ended)


# --- who may ---


@contextlib.contextmanager
def enforced(market: Market, name: str, pod: str, **spec: object) -> Iterator[None]:
    """A policy for one pod, in effect for as long as this lasts."""
    selector = {"matchLabels": {"pod": pod}}
    body = {"metadata": {"name": name}, "spec": {"podSelector": selector, **spec}}
    market.lab.api("POST", POLICIES, body)
    try:
        market.settle()
        yield
    finally:
        market.lab.api("DELETE", f"{POLICIES}/{name}")
        market.settle()


@pytest.mark.parametrize(
    ("pod", "spec"),
    [
        ("a2", {"ingress": [{"from": [{"podSelector": {"matchLabels": {"pod": "c3"}}}]}]}),
        ("c1", {"policyTypes": ["Egress"], "egress": [{"ports": [{"port": 80}, {"port": 53}]}]}),
    ],
    ids=["into the endpoint", "out of the client"],
)
def test_a_policy_ends_what_it_forbids_and_nothing_else(
    market: Market, pod: str, spec: Object
) -> None:
    """The policy is about c1 and the endpoint a2, and its ports are those of the service."""
    serve(market, WEB, OTHER, *pods("a2"), *pods("b2", of=OTHER)[:1])
    ways = [("tcp", 80), ("udp", 53)]
    called = addresses(market)
    forbidden = [
        Ring(market.pods["c1"], protocol, called[version], port)
        for protocol, port in ways
        for version in FAMILIES
    ]
    allowed = [Ring(market.pods["c3"], protocol, called[4], port) for protocol, port in ways]
    if pod == "a2":
        another = addresses(market, OTHER)[4]
        allowed += [Ring(market.pods["c1"], protocol, another, port) for protocol, port in ways]
    with talks([*forbidden, *allowed]) as spoken:
        began = time.monotonic()
        ending, staying = spoken[: len(forbidden)], spoken[len(forbidden) :]
        with enforced(market, "shut", pod, **spec):
            settled = time.monotonic()
            time.sleep(LATELY)
            assert [talk.since(settled) for talk in ending] == [set()] * len(ending)
            assert set(ring(forbidden, silent=forbidden)) == {SILENT}
        wait_for(lambda: all(goes_on(talk, "a2") for talk in ending), "all to go on again", 30)
        ended = time.monotonic()
        time.sleep(LATELY)
    assert [talk.lost(began, ended) for talk in staying] == [[]] * len(staying)


def test_policies_are_about_the_endpoint(market: Market) -> None:
    """Whoever may call an endpoint may do so through a service; and through a service alone nobody
    may.
    """
    serve(market, WEB, *pods("a2"))
    called = addresses(market)
    made = [
        Ring(market.pods["c1"], protocol, called[version], port)
        for protocol, port in (("tcp", 80), ("udp", 53))
        for version in FAMILIES
    ]
    endpoint_ports = [{"port": 8080}, {"port": 8053, "protocol": "UDP"}]
    service_ports = [{"port": 80}, {"port": 53, "protocol": "UDP"}]
    to_pod = [{"podSelector": {"matchLabels": {"pod": "a2"}}}]
    own = [f"{called[4]}/32", f"{called[6]}/128"]
    to_service = [{"ipBlock": {"cidr": cidr}} for cidr in own]

    def out(peers: list[Object], ports: list[Object]) -> Object:
        return {"policyTypes": ["Egress"], "egress": [{"to": peers, "ports": ports}]}

    with enforced(market, "endpoint", "c1", **out(to_pod, endpoint_ports)):
        assert {heard.who for heard in ring(made)} == {"a2"}
    for peers, ports in ((to_service, service_ports), (to_service, endpoint_ports),
                         (to_pod, service_ports)):  # fmt: skip
        with enforced(market, "service", "c1", **out(peers, ports)):
            assert set(ring(made, silent=made)) == {SILENT}


def test_source_ranges_end_the_connections_of_whom_they_leave_out(market: Market) -> None:
    ranges = {"everybody": ["0.0.0.0/0", "::/0"], "pods": ["10.244.0.0/16", "fd00:10:244::/56"]}
    balanced = service(
        "shop/web",
        "http=80",
        "dns=53/UDP",
        cluster="10.96.0.1 fd00:96::1",
        load_balancer="198.51.100.1 2001:db8:1::1",
        sources=" ".join(ranges["everybody"]),
    )
    serve(market, balanced, *pods("a2"))
    doors = market.world().services[balanced.ref].load_balancer
    made = [
        Ring(place, protocol, str(door), port)
        for place in (market.outside, market.pods["c1"])
        for protocol, port in (("tcp", 80), ("udp", 53))
        for door in doors
    ]
    change = {"kind": "Service", "metadata": {"namespace": SPACE, "name": "web"}}
    with talks(made) as spoken:
        began = time.monotonic()
        market.serve(change | {"spec": {"loadBalancerSourceRanges": ranges["pods"]}})
        settled = time.monotonic()
        time.sleep(LATELY)
        ended, kept = spoken[: len(spoken) // 2], spoken[len(spoken) // 2 :]
        assert [talk.since(settled) for talk in ended] == [set()] * len(ended)
        assert set(ring(made[: len(ended)], silent=made)) == {SILENT}
        market.serve(change | {"spec": {"loadBalancerSourceRanges": ranges["everybody"]}})
        wait_for(lambda: all(goes_on(talk, "a2") for talk in ended), "all to go on again", 30)
        until = time.monotonic()
        time.sleep(LATELY)
    assert [talk.lost(began, until) for talk in kept] == [[]] * len(kept)
