"""The documents by which a dump of flows is put into words: whose every flow is, and what the sets
of endpoints are that flows name by their ids.
"""

from __future__ import annotations

import pytest
from policy_carriage import network_of
from policy_objects import namespace, pod, policy
from service_objects import endpoint, endpoint_slice, node, service

from ovsnet.controller import report
from ovsnet.controller.brain import Brain
from ovsnet.controller.states import Timing
from ovsnet.controller.switchboard import Switchboard
from ovsnet.flows.fields import Field
from ovsnet.flows.flow import SetField
from ovsnet.names import Table
from ovsnet.policy.world import World

PODS = [pod("shop/web", "app=web", host=5), pod("shop/db", node=2, host=6)]


@pytest.fixture
def network():
    nodes = [node(1, "east"), node(2, "west"), node(3)]
    deny = policy("shop/deny", "app=web", ingress=(), egress=())
    made = network_of(World.of([namespace("shop")], PODS, nodes, [deny]))
    hinted = [
        endpoint("10.244.1.5", zones="east", nodes="1"),
        endpoint("10.244.1.7", zones="east", nodes="1"),
        endpoint("10.244.2.6", zones="west", nodes="2"),
        endpoint("10.244.2.7", zones="west", nodes="2"),
    ]
    made.put_service(
        service(
            "shop/web",
            "http=80@30080",
            "7070",
            cluster="10.96.0.1 fd00:96::1",
            load_balancer="192.0.2.1",
            affinity=60,
            local="external",
            health_check=30999,
        )
    )
    made.put_slice(endpoint_slice("shop/web", ["http=8080", "7070"], *hinted))
    made.put_slice(endpoint_slice("shop/web", ["http=8080", "7070"], "fd00:10:244:1::5", name="b"))
    made.put_service(service("shop/dns", "dns=53/UDP", cluster="10.96.0.2"))
    return made


def test_every_flow_has_an_owner_with_a_name(network):
    owners = report.owners(Brain(network, Switchboard(1, Timing())))
    cookies = {
        f"{flow.cookie:#x}"
        for name in network.nodes
        for flow in network.ledger(name).flows.values()
    }
    assert cookies <= owners.keys()
    assert {
        "node node-1",
        "peer node-2",
        "pod shop/web",
        "pod shop/web, isolated for ingress by policy shop/deny",
        "service shop/web",
        "service shop/dns",
        "service shop/web in zone west",
        "service shop/web on this node",
        "the services that have the address 192.0.2.1",
        "all services with 4 endpoints",
    } <= set(owners.values())


def test_every_set_of_endpoints_that_a_flow_is_about_has_a_name(network):
    sets = report.sets(network.board.services.values())
    named = {
        f"{number:#x}"
        for name in network.nodes
        for flow in network.ledger(name).flows.values()
        for number in (_id(flow.match), _id(a for a in flow.actions if isinstance(a, SetField)))
        if number and flow.table is not Table.SERVICE_STATE
    }
    assert named <= sets.keys()
    assert {sets[number] for number in named} == {
        *(
            f"shop/web, port {port}, over IPv4{where}"
            for port in ("http", "7070")
            for where in ("", ", on this node", ", meant for this zone", ", meant for this node")
        ),
        *(
            f"shop/web, port {port}, over IPv6{where}"
            for port in ("http", "7070")
            for where in ("", ", on this node")
        ),
        "shop/dns, port dns, over IPv4",
        *(f"health checks that {how}, over IPv{v}" for how in ("succeed", "fail") for v in (4, 6)),
    }


def _id(parts):
    """The id of a set of endpoints that conditions or actions name; 0: none."""
    found = {part.field: part.value for part in parts if part.mask is None}
    return found.get(Field.REG4, 0) << 32 | found.get(Field.REG5, 0)
