"""What a service says, clause by clause, by real connections and datagrams."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from agreement import disagreements
from calling import Heard, Ring, ring
from market import FAMILIES, SPACE, Market, path
from msgspec.structs import replace
from places import Place, wait_for
from service_objects import endpoint, endpoint_slice, service
from service_strategies import STRANGER
from slowness import SLOW

from ovsnet.model import EndpointSlice, Service
from ovsnet.names import SERVICE_OFFSET, Table
from ovsnet.sandbox import netns
from ovsnet.services.evaluate import Dropped, HealthChecked, Outcome, Refused, Served

OF_EACH = {Served: 30, Refused: 4, Dropped: 8, HealthChecked: 12}
"""So many calls of each service are made that come to this."""

AT_ONCE = 8
"""So many connections a client begins together."""

BOTH = ("http=80", "dns=53/UDP")
BEHIND = ("http=8080", "dns=8053/UDP")
NEAR, NEAR_TOO, FAR, THERE = "10.244.1.5", "10.244.1.6", "10.244.2.5", "10.244.3.5"
SIX = ("fd00:10:244:1::5", "fd00:10:244:2::5")
HOST, OTHER_HOST, BEYOND = "172.18.0.1", "172.18.0.2", "203.0.113.80"
"""Addresses of the tests of services: `Market.wire` says whose they are here."""


def street() -> Iterator[Service | EndpointSlice]:
    """Many services at once, each for a clause, each at addresses and node ports of its own."""
    stalls: list[tuple[Service, list[EndpointSlice]]] = []

    def stall(name: str, *endpoints: object, six: tuple[object, ...] = (), **more: object) -> None:
        number = len(stalls) + 10
        cluster = f"10.96.0.{number}" + (f" fd00:10:96::{number}" if six else "")
        first = 30100 + 2 * number
        ports = (f"http=80@{first}", f"dns=53@{first + 1}/UDP")
        outer = {
            key: " ".join(text.format(number) for text in str(more[key]).split())
            for key in ("external", "load_balancer")
            if key in more
        }
        made = service(f"shop/{name}", *ports, cluster=cluster, **{**more, **outer})
        slices = [endpoint_slice(f"shop/{name}", BEHIND, *endpoints)]
        if six:
            slices.append(endpoint_slice(f"shop/{name}", BEHIND, *six, name="six"))
        stalls.append((made, slices))

    outer = {"external": "198.51.100.{}", "load_balancer": "198.51.100.1{}"}
    stall("everywhere", NEAR, FAR, THERE, six=SIX, **outer)
    stall("hosts", HOST, OTHER_HOST, six=("fd00:172:18::1", "fd00:172:18::2"), **outer)
    stall("beyond", BEYOND, six=("2001:db8::80",), **outer)
    stall("nobody", endpoint(NEAR, "unready"), **outer)
    stall("draining", endpoint(NEAR, "draining"), endpoint(FAR, "unready"), **outer)
    stall("some-draining", endpoint(NEAR, "draining"), FAR, **outer)
    stall("internal", NEAR, NEAR_TOO, local="internal", **outer)
    stall("external", NEAR, FAR, HOST, six=SIX, local="external", health_check=31001, **outer)
    stall("local-hosts", HOST, OTHER_HOST, local="internal external", health_check=31002, **outer)
    stall("local-nobody", local="internal external", health_check=31003, **outer)
    stall("zones", endpoint(NEAR, zones="east"), endpoint(FAR, zones="west"), **outer)
    stall("nodes", endpoint(NEAR, nodes="1"), endpoint(FAR, nodes="2", zones="east"))
    stall("hinted-some", endpoint(NEAR, zones="east"), FAR)
    stall("sources", NEAR, FAR, sources="203.0.113.0/24 10.244.1.0/24", **outer)
    stall("strangers", NEAR, sources=f"{STRANGER[4]}/32", local="external", **outer)
    stall("sticky", NEAR, FAR, THERE, affinity=60, six=SIX, **outer)
    for made, slices in stalls:
        yield made
        yield from slices


@pytest.mark.timeout(300 * SLOW)
def test_a_street_of_services(market: Market) -> None:
    objects = market.wire(*street())
    market.write(*objects)
    market.settle()
    world = market.world()
    calls: dict[tuple[str, type[Outcome]], list[object]] = {}
    for each in market.calls(world):
        calls.setdefault((each[2].service.name, type(each[2])), []).append(each)
    chosen = [
        each
        for (_, kind), found in calls.items()
        # Evenly among all callers and ways of calling.
        for each in found[:: -(-len(found) // OF_EACH[kind])]
    ]
    wrong = disagreements(market, world, chosen)
    assert not wrong, "\n".join(wrong)


# --- services with a selector: the slices are the API server's ---


def selecting(name: str, **spec: object) -> dict[str, object]:
    """A service of both families before pods, by the names of their ports."""
    ports = [
        {"name": "http", "port": 80, "targetPort": "web"},
        {"name": "dns", "port": 53, "targetPort": "dns", "protocol": "UDP"},
    ]
    spec = {"ipFamilyPolicy": "RequireDualStack", "ports": ports, **spec}
    return {"kind": "Service", "metadata": {"namespace": SPACE, "name": name}, "spec": spec}


def who(market: Market, place: Place, service: dict[str, object], times: int = 1) -> set[Heard]:
    """Who answers calls of a service's addresses and ports in every family, each so many times for
    every endpoint that there may be.
    """
    written = market.lab.api("GET", path(service))
    rings = [
        Ring(place, port["protocol"].lower(), address, port["port"])
        for address in written["spec"]["clusterIPs"]
        for port in written["spec"]["ports"]
    ]
    return set(ring(rings * times))


def names(found: set[Heard]) -> set[str]:
    return {each.who for each in found}


def test_ports_by_name_of_pods_that_have_them_under_other_numbers(market: Market) -> None:
    web = selecting("web", selector={"app": "stall"})
    market.serve(web)
    for place in (market.pods["c1"], market.nodes["node2"]):
        found = who(market, place, web, 30)
        assert names(found) == {"a1", "a2", "a3", "b1", "b2", "b3"}


def test_pods_of_the_hosts_network(market: Market) -> None:
    web = selecting("web", selector={"app": "host"}, type="NodePort")
    near = selecting(
        "near", selector={"app": "host"}, type="NodePort", externalTrafficPolicy="Local"
    )
    market.serve(web, near)
    for place in (market.pods["c1"], market.pods["c3"], market.nodes["node1"]):
        assert names(who(market, place, web, 6)) == {"h1", "h2"}
    at = {s["metadata"]["name"]: s for s in (market.lab.api("GET", path(s)) for s in (web, near))}
    for name, answering in (("node1", {"h1"}), ("node2", {"h2"}), ("node3", {""})):
        for version in FAMILIES:
            address = market.lab.underlay(name).address(version)
            calls = {
                one: [
                    Ring(market.outside, port["protocol"].lower(), address, port["nodePort"])
                    for port in found["spec"]["ports"]
                ]
                for one, found in at.items()
            }
            assert names(set(ring(calls["web"] * 20))) == {"h1", "h2"}
            heard = ring(calls["near"] * 3, silent=calls["near"] if name == "node3" else ())
            assert names(set(heard)) == answering
            if name != "node3":
                seen = {each.seen for each in heard} - {""}
                assert seen == {market.outside.address(version)}


@pytest.mark.parametrize(
    ("distribution", "reached"),
    [
        ("PreferSameZone", {"c1": {"a1", "a3"}, "c2": {"a2"}, "c3": {"a1", "a3"}}),
        ("PreferSameNode", {"c1": {"a1"}, "c2": {"a2"}, "c3": {"a3"}}),
    ],
)
def test_traffic_distribution(
    market: Market, distribution: str, reached: dict[str, set[str]]
) -> None:
    selector = {"app": "stall", "sort": "a"}
    near = selecting("near", selector=selector, trafficDistribution=distribution)
    market.serve(near)
    for name, wanted in reached.items():
        assert names(who(market, market.pods[name], near, 6)) == wanted
        # A node's own processes are in the same zone, and on the same node.
        assert names(who(market, market.nodes[f"node{name[1]}"], near, 6)) == wanted


def test_pods_that_are_not_ready(market: Market) -> None:
    selector = {"app": "stall", "sort": "b"}
    usual = selecting("usual", selector=selector)
    early = selecting("early", selector=selector, publishNotReadyAddresses=True)
    market.serve(usual, early)
    with unready(market, "b1"):
        market.settle()
        assert names(who(market, market.pods["c1"], usual, 10)) == {"b2", "b3"}
        assert names(who(market, market.pods["c1"], early, 15)) == {"b1", "b2", "b3"}
    market.settle()
    assert names(who(market, market.pods["c1"], usual, 15)) == {"b1", "b2", "b3"}


@contextlib.contextmanager
def unready(market: Market, name: str) -> Iterator[None]:
    """A pod is not ready, as its slices know, for as long as this lasts."""
    at = f"/api/v1/namespaces/{SPACE}/pods/{name}/status"
    address = market.pods[name].address(4)

    def become(ready: bool) -> None:
        conditions = market.lab.api("GET", at)["status"]["conditions"]
        for condition in conditions:
            if condition["type"] == "Ready":
                condition["status"] = str(ready)
        market.lab.api("PATCH", at, {"status": {"conditions": conditions}}, "merge")
        wait_for(lambda: known(ready), f"{name} to be known as it is")

    def known(ready: bool) -> bool:
        found = [
            e for one in market.world().slices.values() for e in one.endpoints
            if str(e.address) == address
        ]  # fmt: skip
        return bool(found) and all(e.serving == ready for e in found)

    become(False)
    try:
        yield
    finally:
        become(True)


# --- who is seen, who is remembered, who is there from the start ---


def test_who_is_seen(market: Market) -> None:
    """Those who call themselves, and those whose answers would go past the switch, are seen as
    their node's service address.
    """
    own, far = (
        service(f"shop/{n}", *BOTH, cluster=f"10.96.0.{i}") for i, n in ((1, "own"), (2, "far"))
    )
    slices = (
        endpoint_slice("shop/own", BEHIND, NEAR),
        endpoint_slice("shop/far", BEHIND, FAR),
    )
    market.serve(*market.wire(own, far, *slices))
    address = {one.name: str(one.addresses[0]) for one in market.world().services.values()}
    pods, nodes = market.pods, market.nodes
    stand_in = str(market.lab.pod_ranges("node1")[0][SERVICE_OFFSET])
    for place, called, seen in (
        (pods["a1"], "own", stand_in),
        (pods["c1"], "own", pods["c1"].address(4)),
        (pods["c1"], "far", pods["c1"].address(4)),
        (nodes["node1"], "own", nodes["node1"].address(4)),
        (nodes["node1"], "far", stand_in),
    ):
        calls = [Ring(place, "tcp", address[called], 80), Ring(place, "udp", address[called], 53)]
        assert {heard.seen for heard in ring(calls)} == {seen}, (place.name, called)


def test_clients_keep_their_endpoint_until_they_stay_away_or_it_goes(market: Market) -> None:
    timeout = 2
    web = service("shop/web", *BOTH, cluster="10.96.0.1", affinity=timeout)
    ends = {"a1": NEAR, "a2": FAR, "a3": THERE}
    whole = endpoint_slice("shop/web", BEHIND, *ends.values())
    market.serve(*market.wire(web, whole))
    (address,) = market.world().services[web.ref].addresses
    clients = [*market.pods.values(), *market.nodes.values()]
    calls = [Ring(place, "tcp", str(address), 80) for place in clients]

    def given() -> list[str]:
        return [heard.who for heard in ring(calls)]

    # What a client begins at once goes to one endpoint, before the switch can have remembered any.
    together = ring(calls * AT_ONCE)
    by_client = [{h.who for h in together[n :: len(calls)]} for n in range(len(calls))]
    assert [len(found) for found in by_client] == [1] * len(calls)
    first = given()
    assert [{who} for who in first] == by_client
    assert set(first) <= ends.keys()
    # As long as they come back in time they have the same, be it for longer than that.
    began = time.monotonic()
    for _ in range(20):
        assert given() == first
        time.sleep(0.2)
    assert time.monotonic() - began > timeout

    # An endpoint goes: its clients get another one, and keep that.
    gone = first[0]
    rest = [end for name, end in ends.items() if name != gone]
    market.serve(*market.wire(replace(whole, endpoints=tuple(map(endpoint, rest)))))
    second = given()
    assert all(new in ends.keys() - {gone} for new in second)
    assert [b for a, b in zip(first, second, strict=True) if a != gone] == [
        a for a in first if a != gone
    ]
    time.sleep(0.2)
    assert given() == second

    # Of a dozen who stay away for long enough somebody gets another one.
    wait_for(lambda: not remembered(market), "the switches to forget")
    assert given() != second


def remembered(market: Market) -> bool:
    """Whether a switch knows a client's endpoint."""
    dumps = (
        market.lab.ovs(
            name,
            "ovs-ofctl",
            "-O",
            "OpenFlow15",
            "dump-flows",
            "br-int",
            f"table={Table.AFFINITY:d}",
        )
        for name in market.nodes
    )
    return any("idle_timeout=2" in dump for dump in dumps)


def test_the_api_is_there_as_soon_as_a_pod_is(market: Market) -> None:
    lab, node, starts = market.lab, "node3", 8
    sent_again = []
    with lab.stopped(f"kubelet-{node}"):
        for number in range(starts):
            name = f"early-{number}"
            uid = lab.post_pod(name, node, SPACE)["metadata"]["uid"]
            target = lab.container(node, SPACE, name, uid)
            try:
                added = lab.plugin(node, "ADD", target)
                assert added.status == 0, added.message
                sent_again.append(netns.within(Path(target.netns), lambda: ask_the_api(lab.real)))
            finally:
                lab.plugin(node, "DEL", target)
                netns.delete(Path(target.netns))
                at = f"/api/v1/namespaces/{SPACE}/pods/{name}"
                lab.api("DELETE", at, {"gracePeriodSeconds": 0})
    # A kernel that gets no answer asks again after a second, which would hide that it came too
    # early. On a crowded machine a packet may be lost, but not most of the first ones.
    assert sum(again == 0 for again in sent_again) > starts / 2


def ask_the_api(tls: bool) -> int:
    """Ask the API server for its version by its service; how many packets were sent again."""
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(socket.create_connection(("10.96.0.1", 443), timeout=20))
        if tls:
            sock = stack.enter_context(ssl._create_unverified_context().wrap_socket(sock))
        sock.sendall(b"GET /version HTTP/1.0\r\n\r\n")
        assert b"gitVersion" in b"".join(iter(lambda: sock.recv(4096), b""))
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        return int(struct.unpack_from("=I", info, _TOTAL_RETRANSMISSIONS)[0])


_TOTAL_RETRANSMISSIONS = 100
"""Where `struct tcp_info` has them (linux/tcp.h)."""
