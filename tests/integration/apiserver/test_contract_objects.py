"""Writes as clients rely on them. Runs on the embedded and on a real server."""

from __future__ import annotations

import pytest

MERGE = "application/merge-patch+json"
JSON = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"


def config(name, **data):
    return {"metadata": {"name": name}, "data": data}


def deployment(name="web", replicas=2, image="i:1"):
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    # Nobody schedules these, so nothing but the test writes them.
                    "schedulerName": "nobody",
                    "containers": [{"name": "c", "image": image, "ports": [{"containerPort": 80}]}],
                },
            },
        },
    }


def pod(name="p", **spec):
    container = {"name": "c", "image": "i"}
    base = {"schedulerName": "nobody", "containers": [container]}
    return {"metadata": {"name": name}, "spec": base | spec}


@pytest.fixture
def core(namespace):
    return f"/api/v1/namespaces/{namespace}"


@pytest.fixture
def apps(namespace):
    return f"/apis/apps/v1/namespaces/{namespace}"


def test_a_created_object_has_an_identity(target, core):
    made = target.ok("POST", f"{core}/configmaps", {"metadata": {"generateName": "x-"}})
    metadata = made["metadata"]
    assert metadata["name"].startswith("x-")
    assert len(metadata["name"]) == 7
    assert metadata["uid"]
    assert metadata["creationTimestamp"].endswith("Z")
    assert (made["apiVersion"], made["kind"]) == ("v1", "ConfigMap")
    got = target.ok("GET", f"{core}/configmaps/{metadata['name']}")
    assert got == made


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "reason"),
    [
        ("GET", "/configmaps/none", None, 404, "NotFound"),
        ("DELETE", "/configmaps/none", None, 404, "NotFound"),
        ("PUT", "/configmaps/none", config("none"), 404, "NotFound"),
        ("POST", "/configmaps", config("twice"), 409, "AlreadyExists"),
        ("POST", "/configmaps", config("Not_A_Name"), 422, "Invalid"),
        ("POST", "/configmaps", {"metadata": {}}, 422, "Invalid"),
        (
            "POST",
            "/configmaps",
            {"metadata": {"name": "x", "labels": {"a b": "c"}}},
            422,
            "Invalid",
        ),
        (
            "POST",
            "/configmaps",
            {"metadata": {"name": "x", "resourceVersion": "1"}},
            500,
            None,
        ),
        ("POST", "/configmaps", b"{", 400, "BadRequest"),
        ("POST", "/configmaps", {"kind": "Secret", "apiVersion": "v1"}, 400, "BadRequest"),
        ("POST", "/pods", {"metadata": {"name": "x"}, "spec": {"containers": []}}, 422, "Invalid"),
        ("POST", "/services", {"metadata": {"name": "x"}, "spec": {}}, 422, "Invalid"),
        (
            "POST",
            "/services",
            {"metadata": {"name": "9x"}, "spec": {"ports": [{"port": 1}]}},
            422,
            "Invalid",
        ),
        ("PUT", "/configmaps", config("x"), 405, "MethodNotAllowed"),
        ("GET", "/nosuchthings", None, 404, "NotFound"),
    ],
)
def test_a_request_that_cannot_be_is_refused_with_its_reason(
    target, core, method, path, body, status, reason
):
    target.ok("POST", f"{core}/configmaps", config("twice"))
    answer = target.request(method, core + path, body)
    if isinstance(answer.body, str):
        assert answer.status == status == 404
        return
    assert (answer.status, answer.body.get("reason")) == (status, reason), answer.body
    assert answer.body["kind"] == "Status"
    assert answer.body["code"] == status
    assert answer.body["message"]


def test_nothing_is_created_in_a_namespace_that_is_not_there(target):
    path = "/api/v1/namespaces/there-is-no-such-one/configmaps"
    answer = target.request("POST", path, config("x"))
    assert (answer.status, answer.body["details"]["kind"]) == (404, "namespaces")


def test_invalid_objects_name_their_fields(target, core, apps):
    broken = deployment()
    broken["spec"]["selector"] = {"matchLabels": {"app": "other"}}
    broken["spec"]["template"]["spec"]["containers"] = [{"name": "C!"}]
    answer = target.request("POST", f"{apps}/deployments", broken)
    fields = {cause["field"] for cause in answer.body["details"]["causes"]}
    assert {
        "spec.template.metadata.labels",
        "spec.template.spec.containers[0].name",
        "spec.template.spec.containers[0].image",
    } <= fields
    assert answer.body["details"]["kind"] == "Deployment"


def test_an_update_with_an_old_version_is_a_conflict(target, core):
    path = f"{core}/configmaps"
    first = target.ok("POST", path, config("x", a="1"))
    second = target.ok("PUT", f"{path}/x", first | {"data": {"a": "2"}})
    assert second["metadata"]["resourceVersion"] != first["metadata"]["resourceVersion"]
    stale = target.request("PUT", f"{path}/x", first | {"data": {"a": "3"}})
    assert (stale.status, stale.body["reason"]) == (409, "Conflict")
    free = target.ok("PUT", f"{path}/x", config("x", a="4"))
    assert free["data"] == {"a": "4"}
    assert free["metadata"]["uid"] == first["metadata"]["uid"]


def test_writing_what_is_there_already_changes_nothing(target, core):
    path = f"{core}/configmaps"
    made = target.ok("POST", path, config("x", a="1"))
    for method, body, media in (
        ("PUT", made, "application/json"),
        ("PATCH", {"data": {"a": "1"}}, MERGE),
        ("PATCH", [{"op": "test", "path": "/data/a", "value": "1"}], JSON),
    ):
        same = target.ok(method, f"{path}/x", body, media=media)
        assert same["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


def test_every_patch_does_what_it_says(target, apps):
    path = f"{apps}/deployments"
    target.ok("POST", path, deployment())

    def containers(body, media):
        return target.ok("PATCH", f"{path}/web", body, media=media)["spec"]["template"]["spec"][
            "containers"
        ]

    side = {"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "s"}]}}}}
    assert sorted(c["name"] for c in containers(side, STRATEGIC)) == ["c", "side"]
    gone = {"spec": {"template": {"spec": {"containers": [{"name": "side", "$patch": "delete"}]}}}}
    assert [c["name"] for c in containers(gone, STRATEGIC)] == ["c"]
    operations = [
        {"op": "test", "path": "/spec/template/spec/containers/0/name", "value": "c"},
        {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "i:2"},
    ]
    assert containers(operations, JSON)[0]["image"] == "i:2"
    whole = {"spec": {"template": {"spec": {"containers": [{"name": "n", "image": "i"}]}}}}
    assert [c["name"] for c in containers(whole, MERGE)] == ["n"]


@pytest.mark.parametrize(
    ("body", "media", "statuses"),
    [
        ([{"op": "test", "path": "/data/a", "value": "9"}], JSON, (422,)),
        ([{"op": "burn", "path": "/data/a"}], JSON, (400, 422)),
        ({"metadata": {"resourceVersion": "1"}}, MERGE, (409,)),
        ({"metadata": {"name": "y"}}, MERGE, (400, 422)),
        ({"data": {"a": "1"}}, "application/json", (415,)),
        ({"metadata": {"name": "x"}}, APPLY, (400, 422)),
    ],
)
def test_a_patch_that_does_not_fit_is_refused(target, core, body, media, statuses):
    path = f"{core}/configmaps"
    target.ok("POST", path, config("x", a="1"))
    before = target.ok("GET", f"{path}/x")
    answer = target.request("PATCH", f"{path}/x", body, media=media)
    assert answer.status in statuses, answer.body
    assert target.ok("GET", f"{path}/x") == before


def applied(target, path, manager, body, **query):
    kind = {"apiVersion": "v1", "kind": "ConfigMap"}
    return target.request(
        "PATCH", f"{path}/x", kind | body, media=APPLY, fieldManager=manager, **query
    )


def test_appliers_own_what_they_applied(target, core):
    path = f"{core}/configmaps"
    assert applied(target, path, "one", config("x", a="1", b="1")).status == 201
    assert applied(target, path, "two", config("x", b="1", c="1")).status == 200
    clash = applied(target, path, "two", config("x", a="2", c="1"))
    assert (clash.status, clash.body["reason"]) == (409, "Conflict")
    (cause,) = clash.body["details"]["causes"]
    assert (cause["reason"], cause["field"]) == ("FieldManagerConflict", ".data.a")
    assert '"one"' in clash.body["message"]
    forced = applied(target, path, "two", config("x", a="2"), force="true").body
    # Manager two let go of b, which one still has, and of c, which nobody else had.
    assert forced["data"] == {"a": "2", "b": "1"}
    managers = {entry["manager"] for entry in forced["metadata"]["managedFields"]}
    assert managers == {"one", "two"}
    target.ok("PATCH", f"{path}/x", {"data": {"b": "9"}}, media=MERGE, fieldManager="three")
    clash = applied(target, path, "one", config("x", b="1"))
    assert clash.status == 409
    assert '"three"' in clash.body["message"]


def test_a_dry_run_answers_and_stores_nothing(target, core):
    path = f"{core}/configmaps"
    shown = target.ok("POST", path, config("x", a="1"), dryRun="All")
    assert shown["metadata"]["uid"]
    assert target.request("GET", f"{path}/x").status == 404
    target.ok("POST", path, config("x", a="1"))
    changed = target.ok("PATCH", f"{path}/x", {"data": {"a": "2"}}, media=MERGE, dryRun="All")
    assert changed["data"] == {"a": "2"}
    target.ok("DELETE", f"{path}/x", dryRun="All")
    assert target.ok("GET", f"{path}/x")["data"] == {"a": "1"}
    assert target.request("POST", path, config("y"), dryRun="Some").status in (400, 422)


def test_unknown_fields_are_refused_warned_of_or_ignored(target, core):
    path = f"{core}/pods"
    odd = pod(colour="red")
    strict = target.request("POST", path, odd, fieldValidation="Strict")
    assert strict.status == 400
    assert 'unknown field "spec.colour"' in strict.body["message"]
    warned = target.request("POST", path, odd, fieldValidation="Warn")
    assert warned.status == 201
    assert "colour" not in warned.body["spec"]
    assert 'unknown field \\"spec.colour\\"' in warned.headers["Warning"]


def test_a_value_of_the_wrong_type_is_refused(target, apps):
    answer = target.request("POST", f"{apps}/deployments", deployment(replicas="two"))
    assert (answer.status, answer.body["reason"]) == (400, "BadRequest")
    assert "replicas" in answer.body["message"]


def test_the_status_is_written_apart(target, core):
    path = f"{core}/pods"
    target.ok("POST", path, pod() | {"status": {"phase": "Running"}})
    assert target.ok("GET", f"{path}/p")["status"]["phase"] == "Pending"
    status = {
        "phase": "Running",
        "podIP": "10.9.8.7",
        "podIPs": [{"ip": "10.9.8.7"}],
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    body = {"status": status, "spec": {"hostname": "other"}}
    shown = target.ok("PATCH", f"{path}/p/status", body, media=STRATEGIC)
    assert shown["status"]["podIP"] == "10.9.8.7"
    assert "hostname" not in shown["spec"]
    more = {"status": {"conditions": [{"type": "PodScheduled", "status": "True"}]}}
    shown = target.ok("PATCH", f"{path}/p/status", more, media=STRATEGIC)
    kinds = {c["type"]: c["status"] for c in shown["status"]["conditions"]}
    assert kinds == {"Ready": "True", "PodScheduled": "True"}
    target.ok("PATCH", f"{path}/p", {"status": {"phase": "Failed"}}, media=MERGE)
    assert target.ok("GET", f"{path}/p/status")["status"]["phase"] == "Running"


def test_replicas_are_scaled_by_the_scale(target, apps):
    path = f"{apps}/deployments"
    target.ok("POST", path, deployment())
    scale = target.ok("GET", f"{path}/web/scale")
    assert (scale["kind"], scale["spec"]["replicas"]) == ("Scale", 2)
    assert scale["status"]["selector"] == "app=web"
    while True:
        # Where controllers run, they may write the deployment's status in between.
        fresh = target.ok("GET", f"{path}/web/scale")
        changed = target.request("PUT", f"{path}/web/scale", fresh | {"spec": {"replicas": 4}})
        if changed.status != 409:
            break
    assert changed.body["spec"]["replicas"] == 4
    assert target.ok("GET", f"{path}/web")["spec"]["replicas"] == 4
    assert target.request("PUT", f"{path}/web/scale", scale).status == 409
    patch = {"spec": {"replicas": 1}}
    assert target.ok("PATCH", f"{path}/web/scale", patch, media=MERGE)["spec"]["replicas"] == 1


def test_generations_count_the_spec(target, apps):
    path = f"{apps}/deployments"
    assert target.ok("POST", path, deployment())["metadata"]["generation"] == 1
    label = {"metadata": {"labels": {"a": "b"}}}
    assert target.ok("PATCH", f"{path}/web", label, media=MERGE)["metadata"]["generation"] == 1
    more = {"spec": {"replicas": 3}}
    assert target.ok("PATCH", f"{path}/web", more, media=MERGE)["metadata"]["generation"] == 2


def test_defaults_are_filled_in(target, core, apps):
    spec = target.ok("POST", f"{core}/pods", pod())["spec"]
    assert spec["restartPolicy"] == "Always"
    assert spec["terminationGracePeriodSeconds"] == 30
    assert spec["serviceAccountName"] == "default"
    assert spec["dnsPolicy"] == "ClusterFirst"
    assert spec["containers"][0]["imagePullPolicy"] == "Always"
    spec = target.ok("POST", f"{apps}/deployments", deployment())["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": "25%", "maxUnavailable": "25%"}
    assert spec["template"]["spec"]["containers"][0]["ports"][0]["protocol"] == "TCP"
    assert spec["template"]["spec"]["containers"][0]["imagePullPolicy"] == "IfNotPresent"
    assert (spec["revisionHistoryLimit"], spec["progressDeadlineSeconds"]) == (10, 600)


def test_a_service_gets_its_address_and_ports(target, core):
    path = f"{core}/services"

    def service(name, **spec):
        return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]} | spec}

    plain = target.ok("POST", path, service("plain"))["spec"]
    assert plain["type"] == "ClusterIP"
    assert plain["clusterIPs"] == [plain["clusterIP"]]
    assert plain["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]
    taken = target.request("POST", path, service("taken", clusterIP=plain["clusterIP"]))
    assert taken.status == 422
    node = target.ok("POST", path, service("node", type="NodePort"))["spec"]
    assert 30000 <= node["ports"][0]["nodePort"] <= 32767
    kept = target.ok("PUT", f"{path}/node", service("node", type="NodePort"))["spec"]
    assert kept["ports"] == node["ports"]
    assert kept["clusterIP"] == node["clusterIP"]
    target.ok("POST", path, service("headless", clusterIP="None"))
    other = service("plain", clusterIP="10.255.255.254")
    assert target.request("PUT", f"{path}/plain", other).status == 422


@pytest.mark.parametrize(
    ("change", "field"),
    [({"selector": {"matchLabels": {"app": "web", "b": "c"}}}, "spec.selector")],
)
def test_what_cannot_change_does_not(target, apps, change, field):
    path = f"{apps}/deployments"
    target.ok("POST", path, deployment())
    body = deployment()
    body["spec"] |= change
    body["spec"]["template"]["metadata"]["labels"] = {"app": "web", "b": "c"}
    answer = target.request("PUT", f"{path}/web", body)
    assert answer.status == 422
    assert field in [cause["field"] for cause in answer.body["details"]["causes"]]


def test_a_pod_may_change_its_image_and_nothing_else(target, core):
    path = f"{core}/pods"
    target.ok("POST", path, pod())
    image = {"spec": {"containers": [{"name": "c", "image": "j"}]}}
    changed = target.ok("PATCH", f"{path}/p", image, media=STRATEGIC)
    assert changed["spec"]["containers"][0]["image"] == "j"
    refused = target.request("PATCH", f"{path}/p", {"spec": {"hostNetwork": True}}, media=STRATEGIC)
    assert refused.status == 422


def test_finalizers_hold_an_object_back(target, core):
    path = f"{core}/configmaps"
    body = config("x")
    body["metadata"]["finalizers"] = ["example.org/hold"]
    target.ok("POST", path, body)
    going = target.ok("DELETE", f"{path}/x")
    assert going["metadata"]["deletionTimestamp"]
    assert target.ok("DELETE", f"{path}/x")["metadata"]["deletionTimestamp"]
    target.ok("PATCH", f"{path}/x", {"metadata": {"finalizers": None}}, media=MERGE)
    assert target.request("GET", f"{path}/x").status == 404


def test_a_deletion_says_what_went(target, core):
    path = f"{core}/configmaps"
    made = target.ok("POST", path, config("x"))
    wrong = target.request("DELETE", f"{path}/x", {"preconditions": {"uid": "other"}})
    assert wrong.status == 409
    right = {"preconditions": {"uid": made["metadata"]["uid"]}, "propagationPolicy": "Background"}
    done = target.ok("DELETE", f"{path}/x", right)
    assert (done["kind"], done["status"]) == ("Status", "Success")
    assert done["details"] == {
        "name": "x",
        "kind": "configmaps",
        "uid": made["metadata"]["uid"],
    }


def test_a_pod_of_a_node_is_ended_by_its_kubelet(target, core):
    path = f"{core}/pods"
    target.ok("POST", path, pod("bound", nodeName="contract-nowhere"))
    going = target.ok("DELETE", f"{path}/bound")
    assert going["metadata"]["deletionGracePeriodSeconds"] == 30
    assert target.request("GET", f"{path}/bound").status == 200
    target.ok("DELETE", f"{path}/bound", {"gracePeriodSeconds": 0})
    assert target.request("GET", f"{path}/bound").status == 404
    target.ok("POST", path, pod("free"))
    target.ok("DELETE", f"{path}/free")
    assert target.request("GET", f"{path}/free").status == 404


def test_an_eviction_deletes(target, core):
    path = f"{core}/pods"
    target.ok("POST", path, pod())
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
    answer = target.request("POST", f"{path}/p/eviction", eviction)
    assert answer.status == 201, answer.body
    assert target.request("GET", f"{path}/p").status == 404


def test_many_are_deleted_by_selector(target, core):
    path = f"{core}/configmaps"
    for name in ("a", "b", "c"):
        body = config(name)
        body["metadata"]["labels"] = {"go": "yes" if name != "c" else "no"}
        target.ok("POST", path, body)
    target.ok("DELETE", path, labelSelector="go=yes")
    left = target.ok("GET", path, labelSelector="go")["items"]
    assert [item["metadata"]["name"] for item in left] == ["c"]


def test_a_lease_changes_hands_only_by_who_knows_its_version(target, namespace):
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    lease = {
        "metadata": {"name": "leader"},
        "spec": {"holderIdentity": "a", "leaseDurationSeconds": 15, "leaseTransitions": 0},
    }
    made = target.ok("POST", path, lease)
    renewed = made | {"spec": made["spec"] | {"renewTime": "2026-01-01T00:00:00.123456Z"}}
    assert target.ok("PUT", f"{path}/leader", renewed)["spec"]["renewTime"].endswith(".123456Z")
    stolen = made | {"spec": made["spec"] | {"holderIdentity": "b"}}
    assert target.request("PUT", f"{path}/leader", stolen).status == 409
    del stolen["metadata"]["resourceVersion"]
    assert target.request("PUT", f"{path}/leader", stolen).status == 422
