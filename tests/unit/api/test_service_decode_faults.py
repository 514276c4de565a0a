"""Services from the API: what nobody would write, and nothing that a fault would open."""

from __future__ import annotations

from copy import deepcopy
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from json_strategies import almost
from service_reading import META, read_thing
from service_wire import wire_service

from ovsnet.model import Protocol, Service, ServicePort, ServiceRef


@pytest.mark.parametrize(
    ("thing", "field"),
    [
        ({"spec": {"ports": [{"port": "http"}]}}, "spec.ports[0].port"),
        ({"spec": {"clusterIPs": "10.96.0.7"}}, "spec.clusterIPs"),
        ({"spec": {"loadBalancerSourceRanges": ["10.0.0.0/8", 7]}}, "spec.loadBalancerSource"),
        ({"spec": []}, "spec"),
        ({"status": {"loadBalancer": {"ingress": [{"ip": 7}]}}}, "status.loadBalancer.ingress"),
    ],
)
def test_a_service_that_cannot_be_read_is_absent_and_the_field_is_named(thing, field):
    found = read_thing({"metadata": META} | thing)
    assert found.value is None
    assert found.problems[0].field.startswith(field)
    assert found.key == ServiceRef("shop", "s")


NODE_PORTS = st.integers(30000, 32767)
ADDRESS4 = st.integers(1, 250).map(lambda n: ip_address(f"192.0.2.{n}"))
ADDRESS6 = st.integers(1, 250).map(lambda n: ip_address(f"2001:db8::{n:x}"))
NETWORKS = st.integers(0, 32).map(lambda n: ip_network(f"10.0.0.0/{n}", strict=False))


@st.composite
def services(draw):
    """Services without faults, of every type that has an address."""
    families = draw(st.permutations((4, 6)).map(tuple)) if draw(st.booleans()) else (4,)
    address = ADDRESS4 | ADDRESS6 if len(families) == 2 else ADDRESS4
    kind = draw(st.sampled_from(("ClusterIP", "NodePort", "LoadBalancer")))
    balanced = kind == "LoadBalancer"
    keys = st.tuples(st.sampled_from(Protocol), st.integers(1, 65535))
    found = draw(st.lists(keys, min_size=1, max_size=3, unique=True))
    numbers = draw(
        st.lists(NODE_PORTS, min_size=len(found), max_size=len(found), unique=True)
        if kind != "ClusterIP"
        else st.just([0] * len(found))
    )
    external = tuple(draw(st.lists(address, max_size=2, unique=True)))
    local = (kind != "ClusterIP" or bool(external)) and draw(st.booleans())
    cluster = {4: ip_address("10.96.0.7"), 6: ip_address("fd00:96::7")}
    ranges = st.lists(NETWORKS, min_size=1, max_size=3, unique=True).map(tuple)
    return Service(
        namespace="shop",
        name="s",
        uid="u-1",
        created="2026-01-01T00:00:00Z",
        addresses=tuple(cluster[family] for family in families),
        external=external,
        load_balancer=tuple(draw(st.lists(address, min_size=1, max_size=2, unique=True)))
        if balanced
        else (),
        ports=tuple(
            ServicePort(f"p{i}", protocol, number, node_port)
            for i, ((protocol, number), node_port) in enumerate(zip(found, numbers, strict=True))
        ),
        families=families,
        internal_local=draw(st.booleans()),
        external_local=local,
        affinity=draw(st.just(0) | st.integers(1, 86400)),
        sources=draw(st.none() | ranges) if balanced else None,
        health_check=draw(NODE_PORTS) if balanced and local else 0,
    )


@given(services())
@settings(deadline=None)
def test_what_is_written_is_read_again(service):
    assert read_thing(wire_service(service, resourceVersion="7")).value == service


GARBAGE = {
    str: st.sampled_from(("no such", "", "None", "0.0.0.0", "::1", "010.0.0.1", "10.0.0.0/33")),
    int: st.sampled_from((0, -7, 29999, 32768, 65536, 100000)),
}
"""What no part of a service can be, or is something else than what stood in its place."""


def leaves(thing, path=()):
    """The paths to every word and number in an object."""
    if isinstance(thing, dict | list):
        steps = thing.keys() if isinstance(thing, dict) else range(len(thing))
        for step in steps:
            yield from leaves(thing[step], (*path, step))
    else:
        yield path


@given(services(), st.data())
@settings(deadline=None, max_examples=300)
def test_a_fault_opens_nothing(service, data):
    thing = deepcopy(wire_service(service, resourceVersion="7"))
    spec = thing["spec"]
    *path, last = data.draw(st.sampled_from(list(leaves(spec))))
    for step in path:
        spec = spec[step]
    spec[last] = data.draw(GARBAGE[type(spec[last])])
    found = read_thing(thing).value
    assume(found.faults)
    for name in ("addresses", "external", "load_balancer", "families"):
        assert set(getattr(found, name)) <= set(getattr(service, name))
    numbers = {(port.protocol, port.port) for port in service.ports}
    assert {(port.protocol, port.port) for port in found.ports} <= numbers
    assert {p.node_port for p in found.ports} <= {0, *(p.node_port for p in service.ports)}
    assert found.internal_local or not (found.ports and service.internal_local)
    if found.load_balancer and service.sources is not None:
        assert found.sources is not None
        assert set(found.sources) <= set(service.sources)


FIELDS = (
    *("type", "ports", "port", "protocol", "name", "nodePort", "clusterIP", "clusterIPs"),
    *("externalIPs", "ipFamilies", "internalTrafficPolicy", "externalTrafficPolicy"),
    *("sessionAffinity", "sessionAffinityConfig", "clientIP", "timeoutSeconds"),
    *("loadBalancerSourceRanges", "healthCheckNodePort", "loadBalancer", "ingress", "ip"),
)
ALMOST = almost(
    FIELDS,
    ("LoadBalancer", "NodePort", "Local", "ClientIP", "IPv6", "UDP", "VIP", "10.96.0.7", "::7", 80),
)


@given(ALMOST | st.dictionaries(st.sampled_from(FIELDS), ALMOST), ALMOST)
@settings(deadline=None)
def test_nothing_that_is_json_breaks_it(spec, status):
    found = read_thing({"metadata": META, "spec": spec, "status": status})
    if found.value is None:
        assert found.problems
        return
    for fault in found.value.faults:
        assert fault.field.startswith(("spec.", "status."))
        assert "expected" in fault.reason
