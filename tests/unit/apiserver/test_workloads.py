"""The controllers, over generated orders of everybody's steps."""

from __future__ import annotations

from ipaddress import ip_network
from itertools import combinations

import pytest
from apiserver_cluster import Cluster, pod, workload
from hypothesis import given, settings
from hypothesis import strategies as st

from ovsnet.sandbox.apiserver.kinds import (
    CONFIG_MAP,
    DAEMON_SET,
    DEPLOYMENT,
    ENDPOINT_SLICE,
    EVENT,
    JOB,
    LEASE,
    NAMESPACE,
    NODE,
    POD,
    REPLICA_SET,
    SERVICE,
    STATEFUL_SET,
)
from ovsnet.sandbox.workloads.deployments import bounds

KEY = ("default", "x")


def names(objects):
    return sorted(obj["metadata"]["name"] for obj in objects)


def is_active(obj):
    return "deletionTimestamp" not in obj["metadata"]


def is_ready(obj):
    return any(
        c["type"] == "Ready" and c["status"] == "True" for c in obj["status"].get("conditions", ())
    )


def image(obj):
    return obj["spec"]["containers"][0]["image"]


def set_image(cluster, kind, text):
    def change(obj):
        obj["spec"]["template"]["spec"]["containers"][0]["image"] = text
        return obj

    cluster.registry.change(kind, KEY, change, cluster.write)


shares = st.sampled_from((0, 1, 2, "25%", "50%"))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), shares, shares, st.data())
def test_a_rollout_ends_and_keeps_its_bounds_on_the_way(replicas, surge, unavailable, data):
    cluster = Cluster()
    strategy = {
        "type": "RollingUpdate",
        "rollingUpdate": {
            "maxSurge": surge,
            "maxUnavailable": unavailable if surge or unavailable else 1,
        },
    }
    cluster.create(DEPLOYMENT, workload("x", replicas, strategy=strategy))
    cluster.settle()
    most, fewest = bounds(cluster.get(DEPLOYMENT, KEY))
    set_image(cluster, DEPLOYMENT, "i:2")
    for _ in range(500):
        if data.draw(st.booleans(), label="controllers"):
            if not cluster.runner.work() and all(
                image(p) == "i:2" and is_ready(p) and is_active(p) for p in cluster.objects(POD)
            ):
                break
        else:
            pods = [item.key for item in cluster.registry.store[POD].items()]
            if pods:
                cluster.kubelet(data.draw(st.sampled_from(pods), label="kubelet of"))
        pods = [p for p in cluster.objects(POD) if is_active(p)]
        assert len(pods) <= replicas + most
        assert sum(map(is_ready, pods)) >= replicas - fewest
    cluster.settle()
    assert {image(p) for p in cluster.objects(POD)} == {"i:2"}
    status = cluster.get(DEPLOYMENT, KEY)["status"]
    assert status["updatedReplicas"] == status["availableReplicas"] == replicas
    assert {c["type"]: c["reason"] for c in status["conditions"]} == {
        "Available": "MinimumReplicasAvailable",
        "Progressing": "NewReplicaSetAvailable",
    }


def test_recreate_ends_the_old_before_it_starts_the_new():
    cluster = Cluster()
    cluster.create(DEPLOYMENT, workload("x", 3, strategy={"type": "Recreate"}))
    cluster.settle()
    set_image(cluster, DEPLOYMENT, "i:2")
    cluster.work()
    assert {image(p) for p in cluster.objects(POD) if is_active(p)} <= {"i:1"}
    cluster.settle()
    assert [image(p) for p in cluster.objects(POD)] == ["i:2"] * 3


def test_going_back_to_an_old_template_uses_its_replica_set_again():
    cluster = Cluster()
    cluster.create(DEPLOYMENT, workload("x", 2))
    for text in ("i:2", "i:1"):
        cluster.settle()
        set_image(cluster, DEPLOYMENT, text)
    cluster.settle()
    sets = cluster.objects(REPLICA_SET)
    revisions = {
        rs["metadata"]["annotations"]["deployment.kubernetes.io/revision"]: rs["spec"]["replicas"]
        for rs in sets
    }
    assert revisions == {"2": 0, "3": 2}


def test_a_stalled_rollout_says_so():
    cluster = Cluster(nodes=0)
    cluster.create(DEPLOYMENT, workload("x", 1))
    cluster.work()
    cluster.clock.forward(601)
    cluster.runner.look_again()
    cluster.work()
    conditions = cluster.get(DEPLOYMENT, KEY)["status"]["conditions"]
    assert {c["type"]: c["reason"] for c in conditions}["Progressing"] == "ProgressDeadlineExceeded"


def test_a_lost_pod_is_replaced_and_a_surplus_one_removed():
    cluster = Cluster()
    cluster.create(REPLICA_SET, workload("x", 3))
    cluster.settle()
    lost = cluster.objects(POD)[0]["metadata"]["name"]
    cluster.delete(POD, ("default", lost))
    cluster.settle()
    assert len(cluster.objects(POD)) == 3
    assert lost not in names(cluster.objects(POD))
    cluster.change(REPLICA_SET, KEY, {"spec": {"replicas": 1}})
    cluster.settle()
    assert len(cluster.objects(POD)) == 1


def test_a_stateful_set_counts_up_and_down_one_by_one():
    cluster = Cluster()
    cluster.create(STATEFUL_SET, workload("x", 3, serviceName="x"))
    cluster.work()
    assert names(cluster.objects(POD)) == ["x-0"]
    cluster.settle()
    assert names(cluster.objects(POD)) == ["x-0", "x-1", "x-2"]
    cluster.change(STATEFUL_SET, KEY, {"spec": {"replicas": 1}})
    cluster.work()
    assert names(p for p in cluster.objects(POD) if is_active(p)) == ["x-0", "x-1"]
    cluster.settle()
    assert names(cluster.objects(POD)) == ["x-0"]


def test_a_stateful_set_rolls_from_the_highest_and_never_two_at_once():
    cluster = Cluster()
    cluster.create(STATEFUL_SET, workload("x", 3))
    cluster.settle()
    set_image(cluster, STATEFUL_SET, "i:2")
    order = []
    for _ in range(50):
        cluster.work()
        pods = cluster.objects(POD)
        assert sum(is_ready(p) and is_active(p) for p in pods) >= 2
        order += [p["metadata"]["name"] for p in pods if not is_active(p)]
        if not sum(cluster.kubelet(("default", p["metadata"]["name"])) for p in pods):
            break
    assert order == ["x-2", "x-1", "x-0"]
    assert {image(p) for p in cluster.objects(POD)} == {"i:2"}
    status = cluster.get(STATEFUL_SET, KEY)["status"]
    assert status["currentRevision"] == status["updateRevision"]


def test_a_daemon_set_follows_the_nodes():
    cluster = Cluster(nodes=2)
    cluster.create(DAEMON_SET, workload("x"))
    cluster.settle()

    def placed():
        return sorted(p["spec"]["nodeName"] for p in cluster.objects(POD))

    assert placed() == ["n0", "n1"]
    cluster.add_node("n2", unschedulable=True)
    cluster.settle()
    assert placed() == ["n0", "n1", "n2"]
    cluster.delete(NODE, ("", "n0"))
    cluster.settle()
    assert placed() == ["n1", "n2"]
    set_image(cluster, DAEMON_SET, "i:2")
    cluster.settle()
    assert {image(p) for p in cluster.objects(POD)} == {"i:2"}
    status = cluster.get(DAEMON_SET, KEY)["status"]
    assert status["updatedNumberScheduled"] == status["numberReady"] == 2


def test_a_job_completes():
    cluster = Cluster()
    job = workload("x", completions=2, parallelism=1)
    del job["spec"]["selector"]
    job["spec"]["template"]["spec"]["restartPolicy"] = "Never"
    cluster.create(JOB, job)
    for _ in range(3):
        cluster.settle()
        for running in cluster.objects(POD):
            key = ("default", running["metadata"]["name"])
            cluster.change(POD, key, {"status": {"phase": "Succeeded"}}, "status")
    cluster.settle()
    status = cluster.get(JOB, KEY)["status"]
    assert status["succeeded"] == 2
    assert [c["type"] for c in status["conditions"]] == ["Complete"]
    assert len(cluster.objects(POD)) == 2


def where(cluster, name):
    return cluster.get(POD, ("default", name))["spec"].get("nodeName")


def why(cluster, name):
    conditions = cluster.get(POD, ("default", name))["status"].get("conditions", ())
    return next((c.get("message", "") for c in conditions if c["type"] == "PodScheduled"), "")


def node_affinity(operator, *values):
    term = {"key": "kubernetes.io/hostname", "operator": operator, "values": list(values)}
    required = {"nodeSelectorTerms": [{"matchExpressions": [term]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"nodeSelector": {"kubernetes.io/hostname": "n1"}}, {"n1"}),
        ({"nodeSelector": {"kubernetes.io/hostname": "n9"}}, {None}),
        ({"affinity": node_affinity("NotIn", "n0", "n1")}, {"n2"}),
        ({"affinity": node_affinity("In", "n7")}, {None}),
        ({"nodeName": "n2"}, {"n2"}),
        ({"schedulerName": "another"}, {None}),
        ({"schedulingGates": [{"name": "example.org/gate"}]}, {None}),
        ({}, {"n0", "n1", "n2"}),
    ],
)
def test_a_pod_goes_where_it_may(spec, expected):
    cluster = Cluster()
    cluster.create(POD, pod("p", **spec))
    cluster.work()
    assert where(cluster, "p") in expected


def test_a_pod_that_fits_nowhere_waits_says_why_and_goes_when_it_can():
    cluster = Cluster(nodes=1)
    cluster.change(NODE, ("", "n0"), {"spec": {"unschedulable": True}})
    cluster.create(POD, pod("p"))
    cluster.work()
    assert where(cluster, "p") is None
    assert why(cluster, "p") == "0/1 nodes are available: 1 node(s) were unschedulable."
    events = [e for e in cluster.objects(EVENT) if e["reason"] == "FailedScheduling"]
    assert [(e["involvedObject"]["name"], e["type"]) for e in events] == [("p", "Warning")]
    cluster.change(NODE, ("", "n0"), {"spec": {"unschedulable": False}})
    cluster.work()
    assert where(cluster, "p") == "n0"


def test_a_node_that_is_not_ready_or_tainted_takes_only_who_tolerates_it():
    cluster = Cluster(nodes=0)
    taint = {"key": "k", "value": "v", "effect": "NoSchedule"}
    cluster.add_node("n0", taints=[taint])
    toleration = {"key": "k", "operator": "Equal", "value": "v", "effect": "NoSchedule"}
    cluster.create(POD, pod("no"))
    cluster.create(POD, pod("yes", tolerations=[toleration]))
    cluster.work()
    assert (where(cluster, "no"), where(cluster, "yes")) == (None, "n0")
    down = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}
    cluster.change(NODE, ("", "n0"), down, "status")
    cluster.create(POD, pod("late", tolerations=[toleration]))
    cluster.work()
    assert "not ready" in why(cluster, "late")


def test_pods_of_one_owner_are_spread():
    cluster = Cluster(nodes=3)
    cluster.create(REPLICA_SET, workload("x", 6))
    cluster.work()
    placed = [p["spec"]["nodeName"] for p in cluster.objects(POD)]
    assert sorted(placed) == ["n0", "n0", "n1", "n1", "n2", "n2"]


def test_anti_affinity_and_host_ports_keep_pods_apart():
    cluster = Cluster(nodes=2)
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "x"}}}
    apart = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    labelled = workload("x", 3)
    labelled["spec"]["template"]["spec"]["affinity"] = apart
    cluster.create(REPLICA_SET, labelled)
    cluster.work()
    placed = [p["spec"].get("nodeName") for p in cluster.objects(POD)]
    assert sorted(filter(None, placed)) == ["n0", "n1"]
    port = [{"name": "c", "image": "i", "ports": [{"containerPort": 1, "hostPort": 99}]}]
    for name in ("a", "b", "c"):
        cluster.create(POD, pod(name, containers=port))
    cluster.work()
    assert sorted(filter(None, (where(cluster, n) for n in "abc"))) == ["n0", "n1"]


def test_spread_constraints_hold():
    cluster = Cluster(nodes=3)
    cluster.change(NODE, ("", "n2"), {"spec": {"unschedulable": True}})
    constraint = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "x"}},
    }
    spread = workload("x", 3)
    spread["spec"]["template"]["spec"]["topologySpreadConstraints"] = [constraint]
    cluster.create(REPLICA_SET, spread)
    cluster.work()
    # The cordoned node counts as a domain that is empty: a third pod would make the skew two.
    placed = [p["spec"].get("nodeName") for p in cluster.objects(POD)]
    assert sorted(filter(None, placed)) == ["n0", "n1"]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(("add", "remove", "own")), max_size=12))
def test_no_two_nodes_ever_share_a_range(steps):
    cluster = Cluster(nodes=0)
    alive: list[str] = []
    for number, step in enumerate(steps):
        name = f"n{number}"
        if step == "remove" and alive:
            cluster.delete(NODE, ("", alive.pop(0)))
        elif step == "own":
            # Its creator chose a range that the allocator would come to.
            own = f"10.244.{number}.0/24"
            taken = {
                text for n in cluster.objects(NODE, None) for text in n["spec"].get("podCIDRs", ())
            }
            if own not in taken:
                cluster.add_node(name, podCIDRs=[own])
                alive.append(name)
        else:
            cluster.add_node(name)
            alive.append(name)
        cluster.work()
        nodes = cluster.objects(NODE, None)
        ranges = [ip_network(text) for n in nodes for text in n["spec"]["podCIDRs"]]
        assert all(n["spec"]["podCIDR"] == n["spec"]["podCIDRs"][0] for n in nodes)
        for one, other in combinations(ranges, 2):
            assert one.version != other.version or not one.overlaps(other)


def test_a_silent_node_becomes_unknown_and_its_pods_stay():
    cluster = Cluster(nodes=1)
    lease = {"metadata": {"name": "n0"}, "spec": {"renewTime": "2026-01-01T00:00:00.000000Z"}}
    cluster.create(LEASE, lease, "kube-node-lease")
    cluster.create(POD, pod("p"))
    cluster.settle()
    cluster.clock.forward(41)
    cluster.runner.look_again()
    cluster.work()
    conditions = cluster.get(NODE, ("", "n0"))["status"]["conditions"]
    assert [c["status"] for c in conditions if c["type"] == "Ready"] == ["Unknown"]
    cluster.delete(POD, ("default", "p"))
    cluster.clock.forward(3600)
    cluster.runner.look_again()
    cluster.work()
    assert "deletionTimestamp" in cluster.get(POD, ("default", "p"))["metadata"]


def test_deleting_a_deployment_takes_everything_of_it():
    for propagation in ("Background", "Foreground"):
        cluster = Cluster()
        cluster.create(DEPLOYMENT, workload("x", 2))
        cluster.settle()
        cluster.delete(DEPLOYMENT, KEY, propagation)
        cluster.work()
        # Foreground waits for the pods, whose kubelets have not ended them yet.
        assert (cluster.get(DEPLOYMENT, KEY) is None) is (propagation == "Background")
        cluster.settle()
        assert not any(cluster.objects(kind) for kind in (DEPLOYMENT, REPLICA_SET, POD))


def test_orphans_stay_and_are_nobodys():
    cluster = Cluster()
    cluster.create(REPLICA_SET, workload("x", 2))
    cluster.settle()
    cluster.delete(REPLICA_SET, KEY, "Orphan")
    cluster.settle()
    assert cluster.get(REPLICA_SET, KEY) is None
    assert [p["metadata"].get("ownerReferences", []) for p in cluster.objects(POD)] == [[], []]


def test_what_has_another_owner_left_stays():
    cluster = Cluster()
    cluster.create(CONFIG_MAP, {"metadata": {"name": "a"}})
    cluster.create(CONFIG_MAP, {"metadata": {"name": "b"}})
    owners = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": name,
            "uid": cluster.get(CONFIG_MAP, ("default", name))["metadata"]["uid"],
        }
        for name in ("a", "b")
    ]
    cluster.create(CONFIG_MAP, {"metadata": {"name": "c", "ownerReferences": owners}})
    cluster.delete(CONFIG_MAP, ("default", "a"))
    cluster.work()
    left = cluster.get(CONFIG_MAP, ("default", "c"))["metadata"]["ownerReferences"]
    assert [owner["name"] for owner in left] == ["b"]
    cluster.delete(CONFIG_MAP, ("default", "b"))
    cluster.work()
    assert cluster.get(CONFIG_MAP, ("default", "c")) is None


def test_a_namespace_empties_itself_and_goes_last():
    cluster = Cluster()
    cluster.create(NAMESPACE, {"metadata": {"name": "n"}}, "")
    cluster.create(DEPLOYMENT, workload("x", 2), "n")
    cluster.settle()
    assert cluster.get(CONFIG_MAP, ("n", "kube-root-ca.crt"))
    cluster.delete(NAMESPACE, ("", "n"))
    cluster.work()
    assert cluster.get(NAMESPACE, ("", "n"))["status"]["phase"] == "Terminating"
    assert cluster.objects(POD, "n")
    cluster.settle()
    assert cluster.get(NAMESPACE, ("", "n")) is None
    assert not cluster.objects(POD, "n")
    assert not cluster.objects(CONFIG_MAP, "n")


def endpoints(cluster):
    found: dict[str, list] = {}
    for slice_ in cluster.objects(ENDPOINT_SLICE):
        for endpoint in slice_["endpoints"]:
            conditions = endpoint["conditions"]
            state = tuple(conditions[n] for n in ("ready", "serving", "terminating"))
            found.setdefault(endpoint["targetRef"]["name"], []).append((state, slice_["ports"]))
    return found


def test_slices_follow_the_pods_of_a_service():
    cluster = Cluster()
    web = {"selector": {"app": "x"}, "ports": [{"port": 80, "targetPort": "http"}]}
    cluster.create(SERVICE, {"metadata": {"name": "s"}, "spec": web})
    cluster.work()
    assert [s["endpoints"] for s in cluster.objects(ENDPOINT_SLICE)] == [[]]
    backend = workload("x", 2)
    backend["spec"]["template"]["spec"]["containers"][0]["ports"] = [
        {"name": "http", "containerPort": 8080}
    ]
    cluster.create(REPLICA_SET, backend)
    cluster.settle()
    found = endpoints(cluster)
    assert len(found) == 2
    for entries in found.values():
        assert [(s, [p["port"] for p in ports]) for s, ports in entries] == [
            ((True, True, False), [8080])
        ]
    leaving = cluster.objects(POD)[0]["metadata"]["name"]
    cluster.delete(POD, ("default", leaving))
    cluster.work()
    assert endpoints(cluster)[leaving][0][0] == (False, True, True)
    cluster.change(SERVICE, ("default", "s"), {"spec": {"selector": {"app": "other"}}})
    cluster.settle()
    assert len(endpoints(cluster)) == 2 or not endpoints(cluster)
    cluster.delete(SERVICE, ("default", "s"))
    cluster.settle()
    assert not cluster.objects(ENDPOINT_SLICE)
