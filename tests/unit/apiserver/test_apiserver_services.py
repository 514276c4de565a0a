"""Addresses and ports of services."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from apiserver_cluster import SERVICE_RANGES, registry
from hypothesis import given, settings
from hypothesis import strategies as st

from ovsnet.sandbox.apiserver.kinds import SERVICE
from ovsnet.sandbox.apiserver.registry import Deletion, Write
from ovsnet.sandbox.apiserver.status import ApiError


def service(name="x", **spec):
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]} | spec}


def create(made, name="x", **spec):
    return made.create(SERVICE, "default", service(name, **spec), Write()).decode()["spec"]


def update(made, name="x", **spec):
    return made.update(SERVICE, ("default", name), service(name, **spec), Write()).decode()["spec"]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcdefg"),
            st.sampled_from(("ClusterIP", "NodePort", "LoadBalancer", "ExternalName", None)),
            st.sampled_from(("SingleStack", "PreferDualStack")),
        ),
        max_size=25,
    )
)
def test_no_two_services_ever_share_an_address_or_a_node_port(sequence):
    made = registry()
    for name, type_, policy in sequence:
        present = made.store[SERVICE].get(("default", name))
        if type_ is None:
            if present:
                made.delete(SERVICE, ("default", name), Deletion(), Write())
            continue
        spec = {"type": type_, "externalName": "example.org"}
        if type_ != "ExternalName":
            spec = {"type": type_, "ipFamilyPolicy": policy}
        (update if present else create)(made, name, **spec)
    specs = [item.decode()["spec"] for item in made.store[SERVICE].items()]
    addresses = [address for spec in specs for address in spec.get("clusterIPs", ())]
    ports = [p["nodePort"] for spec in specs for p in spec.get("ports", ()) if "nodePort" in p]
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


def test_a_headless_service_has_families_and_no_address():
    spec = create(registry(), clusterIP="None")
    assert (spec["clusterIP"], spec["clusterIPs"], spec["ipFamilies"]) == (
        "None",
        ["None"],
        ["IPv4"],
    )


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"clusterIP": "10.96.0.1"}, "spec.clusterIPs[0]"),
        ({"clusterIP": "10.97.0.1"}, "spec.clusterIPs[0]"),
        ({"clusterIP": "ten"}, "spec.clusterIPs"),
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


def test_the_address_of_a_service_is_for_life():
    made = registry()
    create(made)
    with pytest.raises(ApiError, match="field is immutable"):
        update(made, clusterIP="10.96.0.77")
