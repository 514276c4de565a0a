"""Session affinity: clients that are remembered, and how long."""

from __future__ import annotations

from collections import Counter

import pytest
from service_callers import (
    CALLERS,
    CLUSTER,
    EVERY_CALLER,
    FOURTH,
    NODE_PORT,
    THIRD,
    Caller,
    carriage_of,
    serving,
)
from service_carriage import ServiceCarriage
from service_objects import endpoint, endpoint_slice, outside_at, pod_on
from service_objects import service as made_service
from service_scenes import FAR, HOST, NEAR, made_of, of, web

from ovsnet.names import Table
from ovsnet.services.world import World


def remembering(*endpoints: object, **more: object) -> World:
    return serving(*endpoints, affinity=60, **more)


@EVERY_CALLER
def test_a_client_keeps_its_endpoint_whatever_new_connections_would_get(caller: Caller) -> None:
    before = carriage_of(remembering(NEAR, FAR, THIRD))
    assert caller.new_ones(before) == {NEAR, FAR, THIRD}
    for way in caller.ways(before):
        on = before.alone()
        own = caller.connect(on, way=way)
        for port in range(40001, 40004):
            assert caller.ways(on) == [()]
            assert caller.connect(on, port) == own
        on = on.becoming(remembering(own, FOURTH, HOST))
        assert caller.new_ones(on) == {own}


@EVERY_CALLER
def test_connections_that_a_client_begins_together_get_the_same_endpoint(caller: Caller) -> None:
    """The switch remembers none of them before the others have come."""
    on = carriage_of(remembering(NEAR, FAR, THIRD))
    assert len({caller.connect(on.alone(), port) for port in range(40000, 40020)}) == 1


def test_clients_get_all_endpoints() -> None:
    on = carriage_of(remembering(NEAR, FAR, THIRD))
    clients = [Caller(outside_at(1, f"203.0.113.{n}"), NODE_PORT) for n in range(1, 61)]
    taken = Counter(client.connect(on.alone()) for client in clients)
    assert taken.keys() == {NEAR, FAR, THIRD}
    assert min(taken.values()) > 5


@EVERY_CALLER
def test_a_client_whose_endpoint_is_gone_gets_another_and_keeps_that(caller: Caller) -> None:
    on = carriage_of(remembering(NEAR))
    assert caller.connect(on) == NEAR
    on = on.becoming(remembering(FAR, THIRD))
    assert caller.new_ones(on) == {FAR, THIRD}
    caller.connect_to(THIRD, on, 40001)
    on = on.becoming(remembering(NEAR, FAR, THIRD))
    assert caller.new_ones(on) == {THIRD}
    on = on.becoming(remembering())
    assert caller.new_ones(on) == {None}
    on = on.becoming(serving(NEAR, FAR))
    assert caller.new_ones(on) == {NEAR, FAR}


def test_every_client_is_remembered_by_itself() -> None:
    on = carriage_of(remembering(NEAR, FAR))
    one, two = CALLERS["a pod"], Caller(pod_on(1, 6), CLUSTER)
    one.connect_to(NEAR, on)
    assert two.new_ones(on) == {NEAR, FAR}
    two.connect_to(FAR, on)
    assert (one.new_ones(on), two.new_ones(on)) == ({NEAR}, {FAR})


def test_a_client_is_remembered_by_every_address_of_the_service_and_for_each_port() -> None:
    on = carriage_of(remembering(NEAR, FAR))
    by_address = [Caller(pod_on(1), f"{a}:80") for a in ("10.96.0.1", "198.51.100.1")]
    by_address.append(CALLERS["a pod by its node"])
    by_address[0].connect_to(FAR, on)
    for caller in by_address:
        assert caller.new_ones(on) == {FAR}
    assert CALLERS["a pod, UDP"].new_ones(on) == {NEAR, FAR}


def test_what_is_remembered_of_one_service_says_nothing_about_another() -> None:
    other = made_service("bank/api", "http=80", cluster="10.96.0.2", affinity=60)
    also = endpoint_slice("bank/api", ("http=8080",), NEAR, FAR)
    on = ServiceCarriage.serving(made_of(web(affinity=60), of(NEAR, FAR), other, also))
    one, two = CALLERS["a pod"], Caller(pod_on(1), "10.96.0.2:80")
    one.connect_to(FAR, on)
    assert two.new_ones(on) == {NEAR, FAR}


def test_every_node_remembers_its_own_clients() -> None:
    on = carriage_of(remembering(NEAR, FAR))
    one = Caller(outside_at(1), NODE_PORT)
    two = Caller(outside_at(2), "10.244.2.255:30080")
    one.connect_to(NEAR, on)
    assert two.new_ones(on) == {NEAR, FAR}
    two.connect_to(FAR, on)
    assert (one.new_ones(on), two.new_ones(on)) == ({NEAR}, {FAR})


@pytest.mark.parametrize("hints", ["zones", "nodes"])
@pytest.mark.parametrize("name", ["a pod", "the node", "somebody outside"])
def test_an_endpoint_that_hints_mean_for_others_now_is_forgotten(name: str, hints: str) -> None:
    """As with kube-proxy: a client keeps one of those that a first call may reach."""
    caller = CALLERS[name]
    mine, yours = (
        ({"zones": "east"}, {"zones": "west"})
        if hints == "zones"
        else ({"nodes": "1"}, {"nodes": "2"})
    )
    on = carriage_of(remembering(NEAR, FAR, THIRD))
    caller.connect_to(FAR, on)
    for some in ((NEAR, THIRD), (NEAR,)):
        hinted = [endpoint(e, **mine) for e in some]
        changed = on.becoming(remembering(*hinted, endpoint(FAR, **yours)))
        assert caller.new_ones(changed) == set(some)
        caller.connect_to(NEAR, changed, 40001)
        assert caller.new_ones(changed) == {NEAR}
        assert caller.go_on(changed) == FAR


def test_hints_for_nodes_come_before_those_for_zones_also_for_whom_is_remembered() -> None:
    caller = CALLERS["a pod"]
    on = carriage_of(remembering(NEAR, FAR, THIRD))
    caller.connect_to(FAR, on)
    both = (
        endpoint(NEAR, zones="east", nodes="2"),
        endpoint(THIRD, zones="west", nodes="1"),
        endpoint(FAR, zones="west", nodes="1"),
    )
    assert caller.new_ones(on.becoming(remembering(*both))) == {FAR}


def test_what_is_remembered_stands_in_one_table_and_counts_for_its_timeout() -> None:
    on = carriage_of(remembering(NEAR, FAR))
    for number in range(3):
        Caller(pod_on(1), CLUSTER).connect(on, 40000 + number)
        Caller(pod_on(1, 6), CLUSTER).connect(on, 40000 + number)
    assert len(on.switches["node-1"].tables[Table.AFFINITY].flows) == 2
    assert not on.switches["node-2"].tables[Table.AFFINITY].flows
