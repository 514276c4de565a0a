"""EndpointSlices of services: what is in them, and that nothing is missing on the way."""

from __future__ import annotations

import json

import pytest
from apiserver_cluster import Cluster, workload
from hypothesis import given, settings
from hypothesis import strategies as st

from ovsnet.sandbox.apiserver.kinds import ENDPOINT_SLICE, NODE, POD, REPLICA_SET, SERVICE
from ovsnet.sandbox.apiserver.patch.merge_patch import apply_merge_patch
from ovsnet.sandbox.workloads.actions import Create, Delete, Patch
from ovsnet.sandbox.workloads.endpointslices import MOST_ENDPOINTS, plan
from ovsnet.sandbox.workloads.objects import decode_pod

ZONES = {"n1": "a", "n2": "b", "n3": ""}
RESERVED = ("service.kubernetes.io/headless", "kubernetes.io/service-name")
HTTP = {"port": 80, "targetPort": 8080, "protocol": "TCP"}


def service(ports=(HTTP,), labels=None, **spec):
    return {
        "metadata": {"namespace": "shop", "name": "s", "uid": "u-s", "labels": labels or {}},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "10.96.0.7",
            "ipFamilies": ["IPv4"],
            "selector": {"app": "x"},
            "ports": list(ports),
        }
        | spec,
    }


def pod(
    number=1, node="n1", ready=True, terminating=False, phase="Running", addresses=None, **spec
):
    metadata = {"namespace": "shop", "name": f"p{number}", "uid": f"u-{number}"}
    metadata["labels"] = {"app": "x"}
    if terminating:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    texts = addresses or [f"10.1.{number // 250}.{number % 250 + 1}"]
    status = {
        "phase": phase,
        "podIPs": [{"ip": text} for text in texts],
        "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
    }
    body = {"metadata": metadata, "spec": {"nodeName": node} | spec, "status": status}
    return decode_pod(json.dumps(body).encode())


class Slices:
    """The slices that there are, as the plans make them."""

    def __init__(self):
        self.present = {}

    def follow(self, wanted, pods, zones=ZONES, after=lambda: None):
        """Do what is planned until nothing is; `after` is called after each step."""
        for _ in range(3):
            actions = plan(wanted, pods, list(self.present.values()), zones)
            if not actions:
                return
            for action in actions:
                self.take(action)
                after()
        raise AssertionError(actions)

    def take(self, action):
        match action:
            case Create(kind, "shop", obj):
                assert kind is ENDPOINT_SLICE
                assert obj["metadata"]["name"] not in self.present
                self.present[obj["metadata"]["name"]] = obj
            case Patch(kind, ("shop", name), patch):
                assert kind is ENDPOINT_SLICE
                self.present[name] = apply_merge_patch(self.present[name], patch)
            case Delete(kind, ("shop", name)):
                assert kind is ENDPOINT_SLICE
                del self.present[name]
        for obj in self.present.values():
            obj["metadata"].setdefault("uid", "u")

    @property
    def endpoints(self):
        return [e for s in self.present.values() for e in s["endpoints"]]

    @property
    def held(self):
        """The pods that stand in a slice, each with family and ports."""
        return {
            (e["targetRef"]["uid"], s["addressType"], json.dumps(s["ports"]))
            for s in self.present.values()
            for e in s["endpoints"]
        }


def slices_of(*pods, zones=ZONES, **spec):
    """The slices that a service of these pods has."""
    slices = Slices()
    slices.follow(service(**spec), pods, zones)
    return slices


def only(*pods, zones=ZONES, **spec):
    """The one endpoint of a service."""
    (found,) = slices_of(*pods, zones=zones, **spec).endpoints
    return found


def test_an_endpoint_with_everything_in_it():
    slices = slices_of(
        pod(subdomain="s", hostname="web-0"),
        ports=[HTTP | {"name": "http", "appProtocol": "http"}],
        labels={"team": "a"} | dict.fromkeys(RESERVED, "t"),
        trafficDistribution="PreferSameNode",
    )
    (made,) = slices.present.values()
    assert made["metadata"]["labels"] == {
        "team": "a",
        "kubernetes.io/service-name": "s",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    assert made["addressType"] == "IPv4"
    assert made["ports"] == [
        {"name": "http", "port": 8080, "protocol": "TCP", "appProtocol": "http"}
    ]
    assert made["endpoints"] == [
        {
            "addresses": ["10.1.0.2"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": "n1",
            "zone": "a",
            "hints": {"forZones": [{"name": "a"}], "forNodes": [{"name": "n1"}]},
            "hostname": "web-0",
            "targetRef": {"kind": "Pod", "namespace": "shop", "name": "p1", "uid": "u-1"},
        }
    ]


@pytest.mark.parametrize("always", [False, True])
@pytest.mark.parametrize("ready", [False, True])
@pytest.mark.parametrize("terminating", [False, True])
def test_conditions(always, ready, terminating):
    found = only(pod(ready=ready, terminating=terminating), publishNotReadyAddresses=always)
    assert found["conditions"] == {
        "ready": always or (ready and not terminating),
        "serving": ready,
        "terminating": terminating,
    }


@pytest.mark.parametrize(
    ("distribution", "node", "hints"),
    [
        (None, "n1", None),
        ("PreferClose", "n1", {"forZones": [{"name": "a"}]}),
        ("PreferSameZone", "n2", {"forZones": [{"name": "b"}]}),
        ("PreferSameZone", "n3", None),
        (
            "PreferSameNode",
            "n1",
            {"forZones": [{"name": "a"}], "forNodes": [{"name": "n1"}]},
        ),
        ("PreferSameNode", "n3", {"forNodes": [{"name": "n3"}]}),
    ],
)
def test_hints(distribution, node, hints):
    found = only(pod(node=node), trafficDistribution=distribution)
    assert found.get("hints") == hints
    assert found.get("zone", "") == ZONES[node]


def test_only_endpoints_that_are_ready_have_hints():
    assert "hints" not in only(pod(ready=False), trafficDistribution="PreferClose")
    assert "hints" not in only(pod(terminating=True), trafficDistribution="PreferClose")


@pytest.mark.parametrize(
    "absent", [pod(phase="Succeeded"), pod(phase="Failed"), pod(node=""), pod(node="gone")]
)
def test_pods_that_are_no_endpoints(absent):
    assert not slices_of(absent).endpoints


def test_a_pod_of_a_node_that_is_gone_is_published_where_all_are_wanted():
    assert only(pod(node="gone"), publishNotReadyAddresses=True)["nodeName"] == "gone"


@pytest.mark.parametrize("families", [["IPv4"], ["IPv6"], ["IPv6", "IPv4"]])
@pytest.mark.parametrize("pods", [[], [pod(addresses=["10.1.0.3", "fd00::3"])]])
def test_every_family_has_slices_of_its_own(families, pods):
    made = slices_of(*pods, ipFamilies=families).present.values()
    assert sorted(s["addressType"] for s in made) == sorted(families)
    for slice_ in made:
        address = {"IPv4": "10.1.0.3", "IPv6": "fd00::3"}[slice_["addressType"]]
        assert [e["addresses"] for e in slice_["endpoints"]] == [[address] for _ in pods]


def container(name, number, **more):
    return {"ports": [{"name": name, "containerPort": number} | more]}


@pytest.mark.parametrize(
    ("spec", "ports"),
    [
        ({"containers": [container("http", 81), container("http", 82)]}, [81]),
        ({"containers": [container("http", 81, protocol="UDP")]}, []),
        ({"initContainers": [container("http", 83)]}, []),
        ({"initContainers": [container("http", 83) | {"restartPolicy": "Always"}]}, [83]),
    ],
)
def test_a_port_by_name_is_what_the_pod_declares(spec, ports):
    (made,) = slices_of(pod(**spec), ports=[HTTP | {"targetPort": "http"}]).present.values()
    assert [port["port"] for port in made["ports"]] == ports
    assert len(made["endpoints"]) == 1


def test_pods_that_declare_other_ports_have_slices_of_their_own():
    pods = [pod(n, containers=[container("http", 80 + n % 2)]) for n in range(4)]
    made = slices_of(*pods, ports=[HTTP | {"targetPort": "http"}]).present.values()
    assert sorted(s["ports"][0]["port"] for s in made) == [80, 81]


@pytest.mark.parametrize("spec", [{"type": "ExternalName"}, {"selector": {}}])
def test_a_service_that_selects_nothing_has_no_slices(spec):
    slices = slices_of(pod())
    assert slices.present
    slices.follow(service(**spec), [pod()])
    assert not slices.present


def test_labels_follow_the_service_both_ways():
    slices = slices_of(pod(), labels={"a": "1", "b": "2"})
    slices.follow(service(labels={"a": "3"}, clusterIP="None"), [pod()])
    (made,) = slices.present.values()
    assert made["metadata"]["labels"] == {
        "a": "3",
        "service.kubernetes.io/headless": "",
        "kubernetes.io/service-name": "s",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }


def places(slices):
    """In which slice each pod is."""
    return {e["targetRef"]["uid"]: n for n, s in slices.present.items() for e in s["endpoints"]}


def test_a_large_service_has_several_slices_and_who_stays_stays_where_it_is():
    pods = [pod(n) for n in range(250)]
    slices = slices_of(*pods)
    sizes = sorted(len(s["endpoints"]) for s in slices.present.values())
    assert sizes == [50, MOST_ENDPOINTS, MOST_ENDPOINTS]
    before = places(slices)
    changed = [*pods[1:120], *pods[121:], pod(250), pod(251), pod(252)]
    slices.follow(service(), changed)
    after = places(slices)
    assert len(after) == 251
    assert len(slices.present) == 3
    assert all(after[uid] == name for uid, name in before.items() if uid in after)


def test_other_ports_are_written_into_the_slices_that_there_are():
    pods = [pod(n) for n in range(150)]
    slices = slices_of(*pods)
    before = set(slices.present)
    slices.follow(service([HTTP | {"targetPort": 9090}]), pods)
    assert set(slices.present) == before
    assert len(places(slices)) == 150
    assert {s["ports"][0]["port"] for s in slices.present.values()} == {9090}


STATES = st.fixed_dictionaries(
    {
        "pods": st.sets(st.integers(0, 320), max_size=260),
        "ready": st.booleans(),
        "families": st.sampled_from((["IPv4"], ["IPv4", "IPv6"])),
        "target": st.sampled_from((8080, "http")),
    }
)


@given(st.lists(STATES, min_size=2, max_size=4))
@settings(deadline=None, max_examples=30)
def test_an_endpoint_that_stays_is_never_missing_on_the_way(states):
    slices = Slices()
    for state in states:
        wanted = service([HTTP | {"targetPort": state["target"]}], ipFamilies=state["families"])
        pods = [
            pod(
                n,
                ready=state["ready"],
                addresses=[f"10.1.{n // 250}.{n % 250 + 1}", f"fd00::{n + 1:x}"],
                containers=[container("http", 80 + n % 3)],
            )
            for n in sorted(state["pods"])
        ]
        target = Slices()
        target.follow(wanted, pods)
        staying = slices.held & target.held
        steps = []

        def check(staying=staying, steps=steps):
            steps.append(1)
            assert staying <= slices.held

        slices.follow(wanted, pods, after=check)
        assert slices.held == target.held
        assert all(len(s["endpoints"]) <= MOST_ENDPOINTS for s in slices.present.values())
        assert {s["addressType"] for s in slices.present.values()} == set(state["families"])
        assert not plan(wanted, pods, list(slices.present.values()), ZONES)


def test_slices_follow_the_zones_of_nodes():
    cluster = Cluster(nodes=1)
    spec = {"selector": {"app": "x"}, "ports": [HTTP], "trafficDistribution": "PreferClose"}
    cluster.create(SERVICE, {"metadata": {"name": "s"}, "spec": spec})
    cluster.create(REPLICA_SET, workload("x", 1))
    cluster.settle()

    def endpoint():
        (slice_,) = cluster.objects(ENDPOINT_SLICE)
        (found,) = slice_["endpoints"]
        return found

    assert endpoint().keys().isdisjoint({"zone", "hints"})
    zone = {"metadata": {"labels": {"topology.kubernetes.io/zone": "a"}}}
    cluster.change(NODE, ("", "n0"), zone)
    cluster.settle()
    assert (endpoint()["zone"], endpoint()["hints"]) == ("a", {"forZones": [{"name": "a"}]})
    cluster.change(SERVICE, ("default", "s"), {"spec": {"trafficDistribution": None}})
    cluster.settle()
    assert endpoint()["zone"] == "a"
    assert "hints" not in endpoint()
    (leaving,) = cluster.objects(POD)
    cluster.delete(POD, ("default", leaving["metadata"]["name"]))
    cluster.work()
    conditions = {"ready": False, "serving": True, "terminating": True}
    assert endpoint()["conditions"] == conditions
