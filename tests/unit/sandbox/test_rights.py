"""What is asked for to see that rights are in effect."""

from __future__ import annotations

from typing import Any

from ovsnet.sandbox import rights

_RBAC = "rbac.authorization.k8s.io/v1"


def role(kind: str, name: str, *rules: dict[str, Any], namespace: str = "") -> dict[str, Any]:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": _RBAC, "kind": kind, "metadata": metadata, "rules": list(rules)}


def binding(kind: str, name: str, to: str, account: str, namespace: str = "") -> dict[str, Any]:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    subject = {"kind": "ServiceAccount", "namespace": "system", "name": account}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": to, "name": name}
    return {
        "apiVersion": _RBAC,
        "kind": kind,
        "metadata": metadata,
        "roleRef": reference,
        "subjects": [subject],
    }


PODS = {"apiGroups": [""], "resources": ["pods", "nodes"], "verbs": ["list", "watch"]}
LEASE = {
    "apiGroups": ["coordination.k8s.io"],
    "resources": ["leases"],
    "resourceNames": ["l"],
    "verbs": ["get"],
}


def test_every_binding_is_asked_about_by_the_first_of_its_rules() -> None:
    objects = [
        role("ClusterRole", "a", PODS, LEASE),
        role("Role", "a", LEASE, namespace="system"),
        role("Role", "a", PODS, namespace="other"),
        binding("ClusterRoleBinding", "a", "ClusterRole", "x"),
        binding("RoleBinding", "a", "Role", "y", namespace="system"),
        binding("RoleBinding", "a", "ClusterRole", "z", namespace="system"),
    ]
    asked = {
        review["user"].rpartition(":")[2]: review["resourceAttributes"]
        for review in rights._reviews(objects)
    }
    pods = {"verb": "list", "group": "", "resource": "pods", "name": ""}
    lease = {"verb": "get", "group": "coordination.k8s.io", "resource": "leases", "name": "l"}
    assert asked == {
        "x": {"namespace": "", **pods},
        "y": {"namespace": "system", **lease},
        "z": {"namespace": "system", **pods},
    }


def test_where_objects_are_made() -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": "n"}}
    assert rights._collection(account) == "/api/v1/namespaces/n/serviceaccounts"
    cluster = role("ClusterRole", "a")
    assert rights._collection(cluster) == f"/apis/{_RBAC}/clusterroles"
