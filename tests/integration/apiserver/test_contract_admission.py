"""What new objects need and get from others. Runs on the embedded and on a real server."""

from __future__ import annotations

import pytest

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
RBAC = "/apis/rbac.authorization.k8s.io/v1"


@pytest.fixture
def core(namespace):
    return f"/api/v1/namespaces/{namespace}"


def pod(name="p", **spec):
    base = {"schedulerName": "nobody", "containers": [{"name": "c", "image": "i"}]}
    return {"metadata": {"name": name}, "spec": base | spec}


def test_a_pod_has_the_priority_of_its_class(target, core):
    assert target.ok("POST", f"{core}/pods", pod())["spec"]["priority"] == 0
    spec = target.ok("POST", f"{core}/pods", pod("q", priorityClassName="system-node-critical"))
    assert spec["spec"]["priority"] == 2_000_001_000


def test_a_class_of_ones_own_says_whether_others_make_room(target, core):
    name = f"patient-{core.rpartition('-')[2]}"
    made = {"metadata": {"name": name}, "value": 7, "preemptionPolicy": "Never"}
    target.ok("POST", "/apis/scheduling.k8s.io/v1/priorityclasses", made)
    try:
        spec = target.ok("POST", f"{core}/pods", pod(priorityClassName=name))["spec"]
        assert (spec["priority"], spec["preemptionPolicy"]) == (7, "Never")
    finally:
        target.request("DELETE", f"/apis/scheduling.k8s.io/v1/priorityclasses/{name}")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"priorityClassName": "none"}, "no PriorityClass with name none was found"),
        ({"priority": 5}, "the integer value of priority (5) must not be provided in pod spec"),
        (
            {"priority": 5, "priorityClassName": "system-node-critical"},
            "computed 2000001000 from the given PriorityClass name",
        ),
        ({"serviceAccountName": "none"}, 'serviceaccount "none" not found'),
    ],
)
def test_a_pod_that_asks_for_what_is_not_there_is_refused(target, core, spec, words):
    answer = target.request("POST", f"{core}/pods", pod(**spec))
    assert (answer.status, answer.body["reason"]) == (403, "Forbidden")
    assert words in answer.body["message"]
    assert target.request("GET", f"{core}/pods/p").status == 404


def test_a_pod_of_another_account_has_it(target, core):
    target.ok("POST", f"{core}/serviceaccounts", {"metadata": {"name": "other"}})
    spec = target.ok("POST", f"{core}/pods", pod(serviceAccountName="other"))["spec"]
    assert (spec["serviceAccountName"], spec["serviceAccount"]) == ("other", "other")


def test_a_pods_generation_counts_what_is_wanted_of_it(target, core, namespace):
    node = f"node-{namespace}"
    target.ok("POST", "/api/v1/nodes", {"metadata": {"name": node}})
    path = f"{core}/pods/p"

    def generation():
        return target.ok("GET", path)["metadata"]["generation"]

    try:
        target.ok("POST", f"{core}/pods", pod())
        assert generation() == 1
        binding = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": node}}
        target.ok("POST", f"{path}/binding", binding)
        status = {"status": {"phase": "Running"}}
        target.ok("PATCH", f"{path}/status", status, media=MERGE)
        assert generation() == 1
        image = {"spec": {"containers": [{"name": "c", "image": "other"}]}}
        target.ok("PATCH", path, image, media=STRATEGIC)
        assert generation() == 2
        target.ok("DELETE", path, {"gracePeriodSeconds": 20})
        assert generation() == 3
        target.ok("DELETE", path, {"gracePeriodSeconds": 10})
        assert generation() == 3
    finally:
        target.request("DELETE", path, {"gracePeriodSeconds": 0})
        target.request("DELETE", f"/api/v1/nodes/{node}")


def test_a_volume_with_a_token_lasts_an_hour(target, core):
    token = {"serviceAccountToken": {"path": "token", "audience": "somebody"}}
    volume = {"name": "identity", "projected": {"sources": [token]}}
    spec = target.ok("POST", f"{core}/pods", pod(volumes=[volume]))["spec"]
    (found,) = (each for each in spec["volumes"] if each["name"] == "identity")
    (source,) = found["projected"]["sources"]
    assert source["serviceAccountToken"]["expirationSeconds"] == 3600
    assert found["projected"]["defaultMode"] == 0o644


@pytest.mark.parametrize(
    ("rule", "field", "words"),
    [
        ({"apiGroups": [""], "resources": ["pods"]}, "verbs", "at least one value"),
        ({"apiGroups": [""], "verbs": ["get"]}, "resources", "at least one resource"),
        ({"resources": ["pods"], "verbs": ["get"]}, "apiGroups", "at least one api group"),
        (
            {"nonResourceURLs": ["/x"], "verbs": ["get"]},
            "nonResourceURLs",
            '["/x"]: namespaced rules cannot apply to non-resource URLs',
        ),
    ],
)
def test_a_rule_that_allows_nothing_is_refused(target, namespace, rule, field, words):
    body = {"metadata": {"name": "r"}, "rules": [rule]}
    answer = target.request("POST", f"{RBAC}/namespaces/{namespace}/roles", body)
    assert answer.status == 422, answer.body
    assert f"rules[0].{field}: " in answer.body["message"]
    assert words in answer.body["message"]


def test_a_rule_is_for_resources_or_for_paths(target):
    rule = {"apiGroups": [""], "resources": ["pods"], "nonResourceURLs": ["/x"], "verbs": ["get"]}
    answer = target.request(
        "POST", f"{RBAC}/clusterroles", {"metadata": {"name": "r"}, "rules": [rule]}
    )
    assert answer.status == 422
    assert "cannot apply to both" in answer.body["message"]
