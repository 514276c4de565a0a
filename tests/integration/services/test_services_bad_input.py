"""Services and slices that cannot be served as they stand, and very many: they work or are refused
by name, in Events and in the status; and all that is in order is served meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from ipaddress import ip_network

import pytest
from calling import REFUSED, Ring, ring
from market import SPACE, Market
from places import wait_for
from service_objects import endpoint, endpoint_slice, service
from switch_state import dump
from talking import LATELY, talks

from ovsnet.names import Table
from ovsnet.sandbox import netns
from ovsnet.sandbox.layout import FABRIC, INSTANCE_VARIABLE

COMMAND = (sys.executable, "-c", "from ovsnet.cli.main import main; main()")
SLICES = f"/apis/discovery.k8s.io/v1/namespaces/{SPACE}/endpointslices"
SERVICES_OF_SPACE = f"/api/v1/namespaces/{SPACE}/services"
EVENTS = "/api/v1/namespaces/{}/events"
BEHIND = ("http=8080",)
NEAR, FAR, THERE = "10.244.1.5", "10.244.2.5", "10.244.3.5"
RUNNING = service("bank/api", "http=80@30080", cluster="10.96.0.1", external="198.51.100.1")
"""It is there before all others."""


@pytest.fixture(autouse=True)
def _running(market: Market) -> Iterator[None]:
    """A service that is in order, called from a pod, a node and outside all the time; nothing of
    that is lost.
    """
    market.serve(*market.wire(RUNNING, endpoint_slice("bank/api", BEHIND, NEAR, FAR)))
    address = str(market.world().services[RUNNING.ref].addresses[0])
    made = [
        Ring(market.pods["c3"], "tcp", address, 80),
        Ring(market.nodes["node2"], "tcp", address, 80),
        Ring(market.outside, "tcp", "198.51.100.1", 80),
        Ring(market.outside, "tcp", market.lab.underlay("node3").address(4), 30080),
    ]
    with talks(made) as spoken:
        began = time.monotonic()
        yield
        market.settle(60)
        assert {heard.who for heard in ring(made * 8)} == {"a1", "a2"}
        ended = time.monotonic()
        time.sleep(LATELY)
    assert [talk.lost(began, ended) for talk in spoken] == [[]] * len(spoken)
    assert all(len(set(talk.answered.values())) == 1 for talk in spoken)


def told(market: Market, kind: str, name: str) -> set[str]:
    """What Events of the reason NotServed say about an object."""
    return {
        event["message"]
        for event in market.lab.api("GET", EVENTS.format(SPACE))["items"]
        if event["reason"] == "NotServed"
        and (event["involvedObject"]["kind"], event["involvedObject"]["name"]) == (kind, name)
    }


def expect_told(market: Market, kind: str, name: str, *parts: str) -> None:
    """Events and the status say this of an object, and no more."""

    def heard() -> bool:
        found = told(market, kind, name)
        return len(found) == len(parts) and all(any(p in each for each in found) for p in parts)

    wait_for(heard, lambda: f"{parts} in Events: there are {told(market, kind, name)}")
    listed = [c for c in market.lab.status()["services"] if c["name"] == f"{SPACE}/{name}"]
    said = [f"{each['field']}: {each['reason']}" for each in listed if each["kind"] == kind]
    assert all(any(part in each for each in said) for part in parts), listed


# --- what services cannot have ---


def test_what_an_older_service_has(market: Market) -> None:
    """The younger one keeps the rest of what it has."""
    market.lab.needs_embedded("gives a node port to two services")
    younger = service(
        "shop/web",
        "http=80@30080",
        "alt=81",
        cluster="10.96.0.2",
        external="198.51.100.1 198.51.100.2",
    )
    market.serve(
        *market.wire(younger, endpoint_slice("shop/web", ("http=8080", "alt=8081"), THERE))
    )
    expect_told(
        market,
        "Service",
        "web",
        "spec.externalIPs: 198.51.100.1, TCP port 80: service bank/api has it",
        "spec.ports.nodePort: node's TCP port 30080: service bank/api has it",
    )
    own = str(market.world().services[younger.ref].addresses[0])
    pod = market.pods["c1"]
    for address, port in ((own, 80), (own, 81), ("198.51.100.2", 80), ("198.51.100.1", 81)):
        assert ring([Ring(pod, "tcp", address, port)])[0].who == "a3", (address, port)
    assert ring([Ring(pod, "tcp", "198.51.100.1", 80)])[0].who in ("a1", "a2")


def test_addresses_that_no_service_can_have(market: Market) -> None:
    market.lab.needs_embedded("takes services with such addresses")
    in_pod_range = str(market.lab.pod_ranges("node2")[0][99])
    taken = str(market.world().services[RUNNING.ref].addresses[0])
    pod = service("shop/pod", "80", cluster=in_pod_range)
    far = service("shop/far", "80", cluster="10.111.0.1")
    outer = service("shop/outer", "80", cluster="10.96.0.2", external=f"{in_pod_range} {taken}")
    slices = [endpoint_slice(f"shop/{name}", ("8080",), THERE) for name in ("pod", "far", "outer")]
    market.serve(*market.wire(pod, far, outer, *slices))
    expect_told(market, "Service", "pod", f"{in_pod_range}: it is in a node's pod range")
    expect_told(
        market, "Service", "far", "10.111.0.1: it is in none of the cluster's service ranges"
    )
    expect_told(
        market,
        "Service",
        "outer",
        f"{in_pod_range}: it is in a node's pod range",
    )
    own = str(market.world().services[outer.ref].addresses[0])
    assert ring([Ring(market.pods["c1"], "tcp", own, 80)])[0].who == "a3"
    nobody = [
        Ring(market.pods["c1"], "tcp", address, 80) for address in (in_pod_range, "10.111.0.1")
    ]
    assert "a3" not in {heard.who for heard in ring(nobody, silent=nobody)}
    done = subprocess.run(
        [*COMMAND, "status"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {INSTANCE_VARIABLE: market.lab.instance},
    )
    assert done.returncode == 1
    assert "shop/far" in done.stdout
    # Whoever corrects it is served.
    market.serve({"kind": "Service", "metadata": {"namespace": SPACE, "name": "outer"},
                  "spec": {"externalIPs": ["198.51.100.3"]}})  # fmt: skip
    assert ring([Ring(market.outside, "tcp", "198.51.100.3", 80)])[0].who == "a3"


def test_a_service_that_nobody_stands_behind(market: Market) -> None:
    market.serve(*market.wire(service("shop/web", "80", cluster="10.96.0.2")))
    (own,) = market.world().services["shop", "web"].addresses
    callers = (market.pods["c1"], market.nodes["node1"])
    assert set(ring([Ring(place, "tcp", str(own), 80) for place in callers])) == {REFUSED}
    # Whoever writes slices is asked no more than that.
    market.serve(*market.wire(endpoint_slice("shop/web", ("8080",), THERE)))
    assert {h.who for h in ring([Ring(place, "tcp", str(own), 80) for place in callers])} == {"a3"}


# --- endpoints that are none ---


def test_endpoints_that_nobody_can_reach_are_left_out(market: Market) -> None:
    market.lab.needs_embedded("takes slices with such endpoints")
    four = service("shop/web", "80", cluster="10.96.0.2")
    wrong = ["127.0.0.1", "169.254.7.7", "224.0.0.9", "239.1.1.1", "0.0.0.0", "255.255.255.255"]
    taken = str(market.world().services[RUNNING.ref].addresses[0])
    one = endpoint_slice("shop/web", ("8080",), *wrong, THERE, endpoint(taken, node=0), name="v4")
    market.serve(*market.wire(four, one))
    fields = [f"endpoints[{index}].addresses" for index in range(6)]
    service_s = f"endpoints: {taken}: it is the cluster address of a service"
    expect_told(market, "EndpointSlice", "web-v4", *fields, service_s)
    own = str(market.world().services[four.ref].addresses[0])
    assert {h.who for h in ring([Ring(market.pods["c1"], "tcp", own, 80)] * 10)} == {"a3"}
    six = service("shop/six", "80", cluster="fd00:96::2")
    wrong = ["::1", "fe80::7", "ff02::9", "ff0e::1", "::"]
    one = endpoint_slice("shop/six", ("8080",), *wrong, "fd00:10:244:3::5", name="v6")
    market.serve(*market.wire(six, one))
    fields = [f"endpoints[{index}].addresses" for index in range(5)]
    expect_told(market, "EndpointSlice", "six-v6", *fields)
    own = str(market.world().services[six.ref].addresses[0])
    assert {h.who for h in ring([Ring(market.pods["c1"], "tcp", own, 80)] * 10)} == {"a3"}


def test_a_pod_that_is_not_there(market: Market) -> None:
    """An address counts, whoever a slice says is there."""
    web = service("shop/web", "80", cluster="10.96.0.2")
    one = endpoint_slice("shop/web", ("8080",), endpoint(THERE, node=9))
    market.serve(*market.wire(web, one))
    own = str(market.world().services[web.ref].addresses[0])
    assert ring([Ring(market.pods["c1"], "tcp", own, 80)])[0].who == "a3"


# --- very many ---

MANY = ip_network("100.64.0.0/22")
"""Addresses that are all the outside's."""


@contextlib.contextmanager
def thousand(market: Market) -> Iterator[list[str]]:
    """A thousand addresses on which somebody answers."""
    fabric = market.lab.layout.netns(FABRIC)

    def route(verb: str) -> None:
        way = f"ip route {verb} {MANY} via {market.outside.address(4)}"
        netns.within(fabric, lambda: subprocess.run(way.split(), check=True))

    market.outside.run("ip", "route", "add", "local", str(MANY), "dev", "lo")
    route("add")
    try:
        market.answerers.open_everywhere(market.outside, 9099)
        yield [str(MANY[number]) for number in range(1, 1001)]
    finally:
        route("del")
        market.outside.run("ip", "route", "del", "local", str(MANY), "dev", "lo")


def test_a_thousand_endpoints(market: Market) -> None:
    calls = 1500
    web = service("shop/web", "80@30081", cluster="10.96.0.2")
    with thousand(market) as addresses:
        parts = [
            endpoint_slice("shop/web", ("9099",), *addresses[start : start + 100], name=f"p{start}")
            for start in range(0, len(addresses), 100)
        ]
        market.serve(*market.wire(web, *parts))
        for name in market.nodes:
            flows = [each.flow for each in dump(market.lab, name)]
            assert sum(flow.table is Table.ENDPOINT for flow in flows) >= len(addresses)
        own = str(market.world().services[web.ref].addresses[0])
        door = market.lab.underlay("node3").address(4)
        ways = [Ring(market.pods["c1"], "tcp", own, 80), Ring(market.outside, "tcp", door, 30081)]
        taken = Counter(heard.who for heard in ring(ways * (calls // 2)))
    assert taken.keys() <= set(addresses)
    # Of so many draws with equal chances 777 of them are different, give or take 13.
    assert len(taken) > 700
    assert max(taken.values()) < 15


SERVICES = int(os.environ.get("OVSNET_TEST_SERVICES", "2000"))
"""So many come at once."""

AT_ONCE = 4


def test_thousands_of_services_at_once(market: Market) -> None:
    ends = [*market.pods]
    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for made in [pool.submit(_make, market, ends, first) for first in range(AT_ONCE)]:
                made.result()
        market.settle(120)
        found = {one.name: one for one in market.world().services.values()}
        assert len(found) > SERVICES
        numbers = random.Random(1).sample(range(SERVICES), 100)
        places = (market.pods["c1"], market.nodes["node2"])
        calls = [
            Ring(place, "tcp", str(found[f"many-{number}"].addresses[0]), 80)
            for number in numbers
            for place in places
        ]
        wanted = [ends[number % len(ends)] for number in numbers for _ in places]
        assert [heard.who for heard in ring(calls)] == wanted
    finally:
        # A real API server takes its time for so many.
        with contextlib.closing(market.lab.connection()) as api:
            for at in (SLICES, SERVICES_OF_SPACE):
                api.request("DELETE", at)
                with api.getresponse() as answer:
                    said = answer.read()
                    assert answer.status == HTTPStatus.OK, said


def _make(market: Market, ends: list[str], first: int) -> None:
    """Make every so many-th service with one endpoint, over one connection."""
    with contextlib.closing(market.lab.connection()) as api:
        for number in range(first, SERVICES, AT_ONCE):
            name = f"many-{number}"
            service = {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}}
            address = market.pods[ends[number % len(ends)]].address(4)
            part = {
                "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
                "addressType": "IPv4",
                "ports": [{"port": 8080}],
                "endpoints": [{"addresses": [address]}],
            }
            for at, body in ((SERVICES_OF_SPACE, service), (SLICES, part)):
                headers = {"Content-Type": "application/json"}
                api.request("POST", at, json.dumps(body), headers)
                with api.getresponse() as answer:
                    said = answer.read()
                    assert answer.status == HTTPStatus.CREATED, said
