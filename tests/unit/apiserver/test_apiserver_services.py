"""Addresses and ports of services."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from apiserver_cluster import SERVICE_RANGES, registry
from hypothesis import given, settings
from hypothesis import strategies as st

from ovsnet.sandbox.apiserver.bootstrap import Advertised
from ovsnet.sandbox.apiserver.deletion import Deletion
from ovsnet.sandbox.apiserver.kinds import ENDPOINT_SLICE, ENDPOINTS, SERVICE
from ovsnet.sandbox.apiserver.registry import Write
from ovsnet.sandbox.apiserver.server import Application, Options, real_sources
from ovsnet.sandbox.apiserver.status import ApiError
from ovsnet.sandbox.apiserver.validation_fields import parsed_address


def service(name="x", **spec):
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]} | spec}


def create(made, name="x", **spec):
    return made.create(SERVICE, "default", service(name, **spec), Write()).decode()["spec"]


def update(made, name="x", **spec):
    return made.update(SERVICE, ("default", name), service(name, **spec), Write()).decode()["spec"]


def merge(made, name="x", **spec):
    """Change what is named and leave the rest, as a merge patch does."""

    def changed(obj):
        return obj | {"spec": obj["spec"] | spec}

    return made.change(SERVICE, ("default", name), changed, Write()).decode()["spec"]


def set_status(made, *ingress, name="x"):
    def changed(obj):
        return obj | {"status": {"loadBalancer": {"ingress": list(ingress)}}}

    return made.change(SERVICE, ("default", name), changed, Write(), "status").decode()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcdefg"),
            st.sampled_from(("ClusterIP", "NodePort", "LoadBalancer", "ExternalName", None)),
            st.sampled_from(("SingleStack", "PreferDualStack")),
            st.sampled_from(("Cluster", "Local")),
            st.sampled_from((update, merge)),
        ),
        max_size=25,
    )
)
def test_no_two_services_ever_share_an_address_or_a_node_port(sequence):
    made = registry()
    for name, type_, policy, external, change in sequence:
        present = made.store[SERVICE].get(("default", name))
        if type_ is None:
            if present:
                made.delete(SERVICE, ("default", name), Deletion(), Write())
            continue
        spec = {"type": type_, "externalName": "example.org"}
        if type_ != "ExternalName":
            spec = {"type": type_, "ipFamilyPolicy": policy}
        if type_ in ("NodePort", "LoadBalancer"):
            spec["externalTrafficPolicy"] = external
        (change if present else create)(made, name, **spec)
    specs = [item.decode()["spec"] for item in made.store[SERVICE].items()]
    addresses = [address for spec in specs for address in spec.get("clusterIPs", ())]
    ports = [p["nodePort"] for spec in specs for p in spec.get("ports", ()) if "nodePort" in p]
    ports += [spec["healthCheckNodePort"] for spec in specs if "healthCheckNodePort" in spec]
    assert len(addresses) == len(set(addresses))
    assert len(ports) == len(set(ports))
    for spec in specs:
        if spec["type"] == "ExternalName":
            assert "clusterIP" not in spec
            continue
        assert spec["clusterIPs"][0] == spec["clusterIP"]
        assert len(spec["clusterIPs"]) == len(spec["ipFamilies"])
        for address, family in zip(spec["clusterIPs"], spec["ipFamilies"], strict=True):
            network = next(n for n in SERVICE_RANGES if f"IPv{n.version}" == family)
            assert ip_address(address) in network
        exposed = spec["type"] in ("NodePort", "LoadBalancer")
        local = spec.get("externalTrafficPolicy") == "Local"
        assert ("externalTrafficPolicy" in spec) is exposed
        assert ("healthCheckNodePort" in spec) is (local and spec["type"] == "LoadBalancer")
        assert ("allocateLoadBalancerNodePorts" in spec) is (spec["type"] == "LoadBalancer")
        assert all(("nodePort" in p) is exposed for p in spec["ports"])
        assert all(30000 <= p["nodePort"] <= 32767 for p in spec["ports"] if exposed)


def test_an_update_that_is_silent_keeps_what_was_allocated():
    made = registry()
    before = create(made, type="NodePort", ipFamilyPolicy="RequireDualStack")
    after = update(made, type="NodePort")
    assert before == after
    internal = update(made)
    assert "nodePort" not in internal["ports"][0]
    assert internal["clusterIPs"] == before["clusterIPs"]


def test_a_second_family_comes_and_goes_and_the_first_address_stays():
    made = registry()
    one = create(made)
    assert one["ipFamilies"] == ["IPv4"]
    two = update(made, ipFamilyPolicy="PreferDualStack")
    assert (two["ipFamilies"], two["clusterIPs"][0]) == (["IPv4", "IPv6"], one["clusterIP"])
    assert update(made, ipFamilyPolicy="SingleStack")["clusterIPs"] == one["clusterIPs"]


def test_the_family_follows_from_the_address_asked_for():
    spec = create(registry(), clusterIP="fd00:96::99")
    assert (spec["ipFamilies"], spec["clusterIPs"]) == (["IPv6"], ["fd00:96::99"])


@pytest.mark.parametrize(
    ("more", "families"), [({"selector": {"a": "b"}}, ["IPv4"]), ({}, ["IPv4", "IPv6"])]
)
def test_a_headless_service_has_families_and_no_address(more, families):
    spec = create(registry(), clusterIP="None", **more)
    assert (spec["clusterIP"], spec["clusterIPs"]) == ("None", ["None"])
    assert spec["ipFamilies"] == families


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"clusterIP": "10.96.0.1"}, "spec.clusterIPs"),
        ({"clusterIP": "010.096.0.1"}, "spec.clusterIPs"),
        ({"clusterIP": "10.97.0.1"}, "spec.clusterIPs"),
        ({"clusterIP": "ten"}, "spec.clusterIPs[0]"),
        ({"type": "NodePort", "ports": [{"port": 1, "nodePort": 80}]}, "spec.ports[0].nodePort"),
        ({"ports": [{"port": 1, "nodePort": 30000}]}, "spec.ports[0].nodePort"),
        ({"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "SingleStack"}, "spec.ipFamilyPolicy"),
        ({"type": "ExternalName"}, "spec.externalName"),
    ],
)
def test_what_cannot_be_allocated_is_refused(spec, field):
    with pytest.raises(ApiError) as caught:
        create(registry(), **spec)
    assert field in [cause.field for cause in caught.value.causes]


def test_a_full_range_says_so_and_a_freed_address_is_used_again():
    made = registry()
    # 254 usable addresses, of which the API server's own service has one.
    for number in range(253):
        create(made, f"s{number}")
    with pytest.raises(ApiError, match=r"the range 10\.96\.0\.0/24 is full"):
        create(made, "again")
    made.delete(SERVICE, ("default", "s7"), Deletion(), Write())
    create(made, "again")


def test_an_address_is_not_given_again_at_once():
    made = registry()
    first = create(made, "a")["clusterIP"]
    made.delete(SERVICE, ("default", "a"), Deletion(), Write())
    assert create(made, "b")["clusterIP"] != first


def test_the_address_of_a_service_is_for_life():
    made = registry()
    create(made)
    with pytest.raises(ApiError, match="may not change once set"):
        update(made, clusterIP="10.96.0.77")


def refused(change, *arguments, **spec):
    with pytest.raises(ApiError) as caught:
        change(*arguments, **spec)
    assert caught.value.code == 422
    return [cause.field for cause in caught.value.causes]


LOCAL = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}


def test_the_port_for_health_checks_is_kept_and_given_back():
    made = registry()
    port = create(made, **LOCAL)["healthCheckNodePort"]
    assert update(made, **LOCAL)["healthCheckNodePort"] == port
    field = "spec.healthCheckNodePort"
    assert refused(merge, made, healthCheckNodePort=port + 5) == [field]
    assert "healthCheckNodePort" not in merge(made, externalTrafficPolicy="Cluster")
    ports = [{"port": 80, "nodePort": 31000}]
    other = create(made, "y", **LOCAL, healthCheckNodePort=port, ports=ports)
    assert other["healthCheckNodePort"] == port


@pytest.mark.parametrize("asked", [80, 30001, 30005])
def test_a_port_for_health_checks_that_is_taken_or_out_of_range_is_an_error(asked):
    made = registry()
    create(made, "y", type="NodePort", ports=[{"port": 1, "nodePort": 30001}])
    own = [{"port": 80, "nodePort": 30005}]
    with pytest.raises(ApiError, match="failed to allocate requested HealthCheck") as caught:
        create(made, **LOCAL, ports=own, healthCheckNodePort=asked)
    assert caught.value.code == 500


def test_node_ports_are_kept_by_the_ports_names():
    made = registry()
    ports = [{"port": 80, "name": "a"}, {"port": 80, "name": "b", "protocol": "UDP"}]
    before = [p["nodePort"] for p in create(made, type="NodePort", ports=ports)["ports"]]
    # New together, they share one; later each gets its own.
    assert before[0] == before[1]
    ports = [{"port": 81, "name": "b"}, {"port": 82, "name": "c"}]
    after = [p["nodePort"] for p in update(made, type="NodePort", ports=ports)["ports"]]
    assert after[0] == before[1]
    assert after[1] not in before


def test_a_type_that_is_left_takes_its_fields_along_unless_they_are_asked_for():
    made = registry()
    create(made, type="NodePort", externalTrafficPolicy="Local")
    changed = merge(made, type="ClusterIP")
    assert changed.keys().isdisjoint({"externalTrafficPolicy", "healthCheckNodePort"})
    assert "nodePort" not in changed["ports"][0]
    merge(made, type="NodePort")
    wanted = {"ports": [{"port": 80, "nodePort": 30333}], "type": "ClusterIP"}
    assert refused(merge, made, **wanted) == ["spec.ports[0].nodePort"]


def test_the_status_names_the_load_balancers_addresses():
    made = registry()
    spec = create(made, type="LoadBalancer")
    assert refused(set_status, made, {"ip": "ten"}) == ["status.loadBalancer.ingress[0].ip"]
    found = set_status(made, {"ip": "198.51.100.1"}, {"hostname": "lb.example.org"})
    entries = [{"ip": "198.51.100.1", "ipMode": "VIP"}, {"hostname": "lb.example.org"}]
    assert found["status"] == {"loadBalancer": {"ingress": entries}}
    assert found["spec"] == spec
    update(made, type="LoadBalancer")
    assert made.get(SERVICE, ("default", "x")).decode()["status"] == found["status"]
    update(made, type="NodePort")
    status = made.get(SERVICE, ("default", "x")).decode()["status"]
    assert status == {"loadBalancer": {}}
    assert refused(set_status, made, {"ip": "198.51.100.1"}) == ["status.loadBalancer.ingress"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("010.000.00.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("FD00:0::1", "fd00::1"),
        ("", None),
        ("10.0.0", None),
        ("10.0.0.256", None),
        ("1", None),
        ("fe80::1%eth0", None),
        ("10.0.0.1 ", None),
        ("-1.0.0.0", None),
        ("\u0661.0.0.1", None),
    ],
)
def test_addresses_are_read_as_the_api_reads_them(text, expected):
    found = parsed_address(text)
    assert (None if found is None else str(found)) == expected


def own_service(advertised):
    """The cluster's own service, its slices and its endpoints."""
    application = Application(Options(advertised=advertised), real_sources())
    store = application.store
    (service,) = [item.decode() for item in store[SERVICE].items("default")]
    slices = [item.decode() for item in store[ENDPOINT_SLICE].items("default")]
    return service, slices, [item.decode() for item in store[ENDPOINTS].items("default")]


@pytest.mark.parametrize(("address", "kind"), [("172.18.0.2", "IPv4"), ("fd00::2", "IPv6")])
def test_the_servers_own_service_has_an_endpoint(address, kind):
    service, (slice_,), (endpoints,) = own_service(Advertised(address, 7443))
    assert service["metadata"]["name"] == "kubernetes"
    assert service["spec"]["ports"][0]["targetPort"] == 7443
    assert slice_["metadata"]["labels"] == {"kubernetes.io/service-name": "kubernetes"}
    assert slice_["addressType"] == kind
    port = {"name": "https", "port": 7443, "protocol": "TCP"}
    assert slice_["ports"] == [port]
    assert slice_["endpoints"] == [{"addresses": [address], "conditions": {"ready": True}}]
    assert endpoints["subsets"] == [{"addresses": [{"ip": address}], "ports": [port]}]


def test_without_an_address_the_servers_own_service_has_none():
    service, slices, endpoints = own_service(None)
    assert service["spec"]["clusterIP"] == "10.96.0.1"
    assert (slices, endpoints) == ([], [])


def test_a_server_cannot_be_reached_on_loopback():
    with pytest.raises(ApiError, match="loopback"):
        own_service(Advertised("127.0.0.1", 6443))
