"""Tables, partial metadata and discovery. Runs on the embedded and on a real server."""

from __future__ import annotations

import pytest


@pytest.fixture
def core(namespace):
    return f"/api/v1/namespaces/{namespace}"


TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
PARTIAL = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json"


@pytest.mark.parametrize(
    ("resource", "columns"),
    [
        ("/api/v1/{ns}/pods", ["Name", "Ready", "Status", "Restarts", "Age"]),
        ("/api/v1/nodes", ["Name", "Status", "Roles", "Age", "Version"]),
        ("/apis/apps/v1/{ns}/deployments", ["Name", "Ready", "Up-to-date", "Available", "Age"]),
        ("/apis/apps/v1/{ns}/replicasets", ["Name", "Desired", "Current", "Ready", "Age"]),
        (
            "/apis/apps/v1/{ns}/daemonsets",
            [
                "Name",
                "Desired",
                "Current",
                "Ready",
                "Up-to-date",
                "Available",
                "Node Selector",
                "Age",
            ],
        ),
        ("/apis/apps/v1/{ns}/statefulsets", ["Name", "Ready", "Age"]),
        (
            "/api/v1/{ns}/services",
            ["Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age"],
        ),
        (
            "/apis/discovery.k8s.io/v1/{ns}/endpointslices",
            ["Name", "AddressType", "Ports", "Endpoints", "Age"],
        ),
        ("/api/v1/namespaces", ["Name", "Status", "Age"]),
        ("/apis/networking.k8s.io/v1/{ns}/networkpolicies", ["Name", "Pod-Selector", "Age"]),
        ("/api/v1/{ns}/events", ["Last Seen", "Type", "Reason", "Object", "Message"]),
        ("/api/v1/{ns}/configmaps", ["Name", "Data", "Age"]),
        ("/api/v1/{ns}/secrets", ["Name", "Type", "Data", "Age"]),
        ("/api/v1/{ns}/serviceaccounts", ["Name", "Secrets", "Age"]),
        ("/api/v1/{ns}/endpoints", ["Name", "Endpoints", "Age"]),
        ("/apis/coordination.k8s.io/v1/{ns}/leases", ["Name", "Holder", "Age"]),
        ("/apis/batch/v1/{ns}/jobs", ["Name", "Status", "Completions", "Duration", "Age"]),
    ],
)
def test_tables_have_the_columns_that_people_know(target, namespace, resource, columns):
    path = resource.format(ns=f"namespaces/{namespace}")
    table = target.ok("GET", path, accept=TABLE)
    assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    shown = [c["name"] for c in table["columnDefinitions"] if c["priority"] == 0]
    assert shown == columns


def test_a_table_tells_a_pods_state(target, core):
    container = {"name": "c", "image": "i"}
    spec = {"schedulerName": "nobody", "containers": [container]}
    target.ok("POST", f"{core}/pods", {"metadata": {"name": "p"}, "spec": spec})
    table = target.ok("GET", f"{core}/pods", accept=TABLE)
    (row,) = table["rows"]
    assert row["cells"][:4] == ["p", "0/1", "Pending", 0] or row["cells"][:4] == [
        "p",
        "0/1",
        "Pending",
        "0",
    ]
    assert row["object"]["kind"] == "PartialObjectMetadata"
    single = target.ok("GET", f"{core}/pods/p", accept=TABLE)
    assert len(single["rows"]) == 1


def test_metadata_alone_can_be_had(target, core):
    target.ok("POST", f"{core}/configmaps", {"metadata": {"name": "x"}, "data": {"a": "1"}})
    listed = target.ok("GET", f"{core}/configmaps", accept=PARTIAL)
    assert listed["kind"] == "PartialObjectMetadataList"
    assert all("data" not in item for item in listed["items"])


def test_a_form_that_is_not_spoken_is_refused(target, core):
    answer = target.request("GET", f"{core}/configmaps", accept="text/html")
    assert answer.status == 406


def test_discovery_lists_the_same_in_both_forms(target):
    version = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    core = target.ok("GET", "/api/v1")
    names = {r["name"]: r["kind"] for r in core["resources"]}
    assert names["pods"] == "Pod"
    assert names["pods/binding"] == "Binding"
    aggregated = target.ok("GET", "/api", accept=version)
    assert aggregated["kind"] == "APIGroupDiscoveryList"
    (group,) = aggregated["items"]
    listed = {r["resource"] for r in group["versions"][0]["resources"]}
    assert listed == {name for name in names if "/" not in name}
    groups = {g["name"] for g in target.ok("GET", "/apis")["groups"]}
    assert {"apps", "networking.k8s.io", "discovery.k8s.io", "coordination.k8s.io"} <= groups
    assert target.ok("GET", "/apis/apps")["preferredVersion"]["version"] == "v1"


def test_health_and_version_are_told(target):
    assert target.ok("GET", "/version")["gitVersion"].startswith("v1.")
    for path in ("/healthz", "/livez", "/readyz"):
        assert target.request("GET", path).body == "ok"
