"""kubectl's verbs, with every kubectl at hand. Runs on the embedded and on a real server."""

from __future__ import annotations

import json

import pytest

MANIFEST = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {tier: front}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      schedulerName: nobody
      containers:
      - {name: a, image: "one:1", ports: [{containerPort: 80}], env: [{name: X, value: "1"}]}
      - {name: b, image: "two:1"}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{podSelector: {}}], ports: [{port: 80, protocol: TCP}]}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: web}
data: {a: "1", b: "2"}
"""


def document(kubectl, *what):
    return json.loads(kubectl("get", *what, "-o", "json"))


def test_apply_creates_changes_and_takes_back(kubectl):
    made = kubectl("apply", "-f", "-", given=MANIFEST)
    assert made.count("created") == 4
    same = kubectl("apply", "-f", "-", given=MANIFEST)
    assert same.count("unchanged") == 4
    # Somebody else scales and labels; apply takes back only what it said itself.
    kubectl("scale", "deployment", "web", "--replicas=5")
    kubectl("label", "deployment", "web", "mine=yes")
    changed = (
        MANIFEST.replace("one:1", "one:2")
        .replace('b: "2"', 'c: "3"')
        .replace('      - {name: b, image: "two:1"}\n', "")
    )
    told = kubectl("apply", "-f", "-", given=changed)
    assert told.count("configured") == 2
    deployment = document(kubectl, "deployment", "web")
    containers = deployment["spec"]["template"]["spec"]["containers"]
    assert [(c["name"], c["image"]) for c in containers] == [("a", "one:2")]
    assert deployment["spec"]["replicas"] == 2
    assert deployment["metadata"]["labels"] == {"tier": "front", "mine": "yes"}
    assert document(kubectl, "configmap", "web")["data"] == {"a": "1", "c": "3"}


def test_server_side_apply_meets_other_managers(kubectl):
    told = kubectl("apply", "--server-side", "-f", "-", given=MANIFEST)
    assert told.count("serverside-applied") == 4
    kubectl("scale", "deployment", "web", "--replicas=5")
    refused = kubectl.run("apply", "--server-side", "-f", "-", given=MANIFEST)
    assert refused.returncode != 0
    assert ".spec.replicas" in refused.stderr
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", given=MANIFEST)
    assert document(kubectl, "deployment", "web")["spec"]["replicas"] == 2


def test_from_client_side_to_server_side_apply(kubectl):
    kubectl("apply", "-f", "-", given=MANIFEST)
    changed = MANIFEST.replace("one:1", "one:2")
    kubectl("apply", "--server-side", "-f", "-", given=changed)
    containers = document(kubectl, "deployment", "web")["spec"]["template"]["spec"]["containers"]
    assert containers[0]["image"] == "one:2"


def test_a_mistake_in_a_manifest_is_found(kubectl):
    for broken in (
        MANIFEST.replace("replicas: 2", "replicsa: 2"),
        MANIFEST.replace("replicas: 2", 'replicas: "two"'),
        MANIFEST.replace("app: web}}\n  template", "app: other}}\n  template"),
    ):
        refused = kubectl.run("apply", "-f", "-", given=broken)
        assert refused.returncode != 0
        assert any(word in refused.stderr for word in ("replicsa", "replicas", "selector"))


def test_get_in_every_form(kubectl):
    kubectl("apply", "-f", "-", given=MANIFEST)
    plain = kubectl("get", "deployment,service,networkpolicy,configmap")
    assert "deployment.apps/web" in plain
    assert "UP-TO-DATE" in plain
    wide = kubectl("get", "deployment", "-o", "wide")
    assert wide.split("\n")[0].split() == [
        "NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE", "CONTAINERS", "IMAGES", "SELECTOR",
    ]  # fmt: skip
    assert "one:1,two:1" in wide
    path = "{.items[0].spec.template.spec.containers[*].name}"
    assert kubectl("get", "deployment", "-o", f"jsonpath={path}") == "a b"
    assert "kind: Deployment" in kubectl("get", "deployment", "web", "-o", "yaml")
    assert kubectl("get", "deployment", "-o", "name").strip() == "deployment.apps/web"
    assert kubectl("get", "deployment", "-l", "tier=front", "-o", "name")
    assert not kubectl("get", "deployment", "-l", "tier=back", "-o", "name")
    custom = kubectl("get", "deployment", "-o", "custom-columns=N:.metadata.name,R:.spec.replicas")
    assert custom.split() == ["N", "R", "web", "2"]
    assert "web" in kubectl("get", "all", "--show-labels")
    assert "web" in kubectl("get", "deployments", "-A", namespaced=False)
    missing = kubectl.run("get", "deployment", "none")
    assert 'deployments.apps "none" not found' in missing.stderr


def test_get_watches(kubectl):
    kubectl("create", "configmap", "first")
    watching = kubectl.start("get", "configmap", "-w", "-l", "seen=yes", "-o", "name")
    try:
        kubectl("label", "configmap", "first", "seen=yes")
        assert watching.stdout is not None
        assert watching.stdout.readline().strip() == "configmap/first"
    finally:
        watching.kill()
        watching.communicate()


def test_describe_tells(kubectl):
    kubectl("apply", "-f", "-", given=MANIFEST)
    told = kubectl("describe", "deployment", "web")
    for text in ("Replicas:               2 desired", "Image:      one:1", "RollingUpdateStrategy"):
        assert text.split()[0] in told
    assert "Selector:" in kubectl("describe", "service", "web")
    assert "Allowing ingress traffic" in kubectl("describe", "networkpolicy", "web")
    kubectl("run", "p", "--image=i", "--overrides", '{"spec":{"schedulerName":"nobody"}}')
    assert "Status:" in kubectl("describe", "pod", "p")
    assert "Active" in kubectl("describe", "namespace", kubectl.namespace, namespaced=False)


def test_create_label_annotate_patch_and_replace(kubectl):
    kubectl("create", "configmap", "x", "--from-literal=a=1")
    twice = kubectl.run("create", "configmap", "x")
    assert "already exists" in twice.stderr
    kubectl("label", "configmap", "x", "colour=red")
    clash = kubectl.run("label", "configmap", "x", "colour=blue")
    assert clash.returncode != 0
    kubectl("label", "configmap", "x", "colour=blue", "--overwrite")
    kubectl("annotate", "configmap", "x", "note=hello there")
    kubectl("patch", "configmap", "x", "-p", '{"data":{"b":"2"}}')
    kubectl("patch", "configmap", "x", "--type=merge", "-p", '{"data":{"a":null}}')
    add = '[{"op":"add","path":"/data/c","value":"3"}]'
    kubectl("patch", "configmap", "x", "--type=json", "-p", add)
    shown = document(kubectl, "configmap", "x")
    assert shown["data"] == {"b": "2", "c": "3"}
    assert shown["metadata"]["labels"] == {"colour": "blue"}
    assert shown["metadata"]["annotations"] == {"note": "hello there"}
    shown["data"] = {"d": "4"}
    kubectl("replace", "-f", "-", given=json.dumps(shown))
    stale = kubectl.run("replace", "-f", "-", given=json.dumps(shown))
    assert "the object has been modified" in stale.stderr
    kubectl("label", "configmap", "x", "colour-")
    assert "labels" not in document(kubectl, "configmap", "x")["metadata"]


def test_set_expose_and_autogenerated_objects(kubectl):
    kubectl("create", "deployment", "d", "--image=one:1")
    kubectl("set", "image", "deployment/d", "one=one:2")
    assert "one:2" in kubectl("get", "deployment", "d", "-o", "wide")
    kubectl("expose", "deployment", "d", "--port=80", "--type=NodePort")
    port = document(kubectl, "service", "d")["spec"]["ports"][0]["nodePort"]
    assert 30000 <= port <= 32767
    kubectl("create", "secret", "generic", "s", "--from-literal=k=v")
    assert document(kubectl, "secret", "s")["data"] == {"k": "dg=="}
    kubectl("create", "serviceaccount", "worker")
    kubectl("create", "role", "r", "--verb=get", "--resource=pods")
    kubectl("create", "rolebinding", "b", "--role=r", "--serviceaccount=default:worker")


def test_delete_by_name_label_file_and_all(kubectl):
    kubectl("apply", "-f", "-", given=MANIFEST)
    for name in ("a", "b", "c"):
        kubectl("create", "configmap", name)
    kubectl("label", "configmap", "a", "go=yes")
    kubectl("delete", "configmap", "-l", "go=yes")
    kubectl("delete", "configmap", "b", "--wait=true")
    kubectl("delete", "-f", "-", given=MANIFEST)
    left = kubectl("get", "configmap", "-o", "name").split()
    assert "configmap/c" in left
    assert not {"configmap/a", "configmap/b", "configmap/web"} & set(left)
    kubectl("delete", "secret", "--all")
    ignored = kubectl("delete", "configmap", "none", "--ignore-not-found")
    assert not ignored


def test_dry_runs_change_nothing(kubectl):
    kubectl("apply", "--dry-run=server", "-f", "-", given=MANIFEST)
    assert not kubectl("get", "deployment", "-o", "name")
    kubectl("apply", "--dry-run=client", "-f", "-", given=MANIFEST)
    kubectl("apply", "-f", "-", given=MANIFEST)
    told = kubectl.run("diff", "-f", "-", given=MANIFEST.replace("one:1", "one:2"))
    assert told.returncode == 1
    assert "one:2" in told.stdout


def test_waiting_for_a_condition(kubectl, target):
    kubectl("run", "p", "--image=i", "--overrides", '{"spec":{"schedulerName":"nobody"}}')
    waiting = kubectl.start("wait", "--for=condition=Ready", "pod/p", "--timeout=20s")
    status = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    path = f"/api/v1/namespaces/{kubectl.namespace}/pods/p/status"
    target.ok("PATCH", path, status, media="application/strategic-merge-patch+json")
    out, _ = waiting.communicate(timeout=30)
    assert waiting.returncode == 0, out


def test_what_there_is_can_be_asked(kubectl):
    resources = kubectl("api-resources", namespaced=False)
    for name in ("pods", "deployments", "networkpolicies", "endpointslices", "leases"):
        assert name in resources
    assert "apps/v1" in kubectl("api-versions", namespaced=False)
    assert "Server Version" in kubectl("version", namespaced=False)
    assert kubectl("auth", "can-i", "create", "pods").strip() == "yes"
    assert "replicas" in kubectl("explain", "deployment.spec", namespaced=False)


@pytest.mark.parametrize("verb", ["cordon", "uncordon"])
def test_nodes_are_cordoned(kubectl, target, verb):
    name = f"{kubectl.namespace}-{verb}"
    body = {"metadata": {"name": name}, "spec": {"unschedulable": verb == "uncordon"}}
    target.ok("POST", "/api/v1/nodes", body)
    try:
        kubectl(verb, name, namespaced=False)
        shown = kubectl("get", "node", name, namespaced=False)
        assert ("SchedulingDisabled" in shown) is (verb == "cordon")
    finally:
        target.ok("DELETE", f"/api/v1/nodes/{name}")
