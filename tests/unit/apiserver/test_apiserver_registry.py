"""The verbs: what is stored, what is refused and why, what changes nothing."""

from __future__ import annotations

import pytest
from apiserver_cluster import Clock, pod, registry, workload

from ovsnet.sandbox.apiserver import kinds
from ovsnet.sandbox.apiserver.deletion import Deletion
from ovsnet.sandbox.apiserver.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    LEASE,
    NAMESPACE,
    NODE,
    POD,
    SERVICE,
)
from ovsnet.sandbox.apiserver.registry import FieldValidation, Write
from ovsnet.sandbox.apiserver.status import ApiError

KEY = ("default", "x")


def config(**data):
    return {"metadata": {"name": "x"}, "data": data}


def refused(function, *args, **kwargs) -> ApiError:
    with pytest.raises(ApiError) as caught:
        function(*args, **kwargs)
    return caught.value


def test_an_update_of_another_version_is_a_conflict_and_changes_nothing():
    made = registry()
    first = made.create(CONFIG_MAP, "default", config(a="1"), Write())
    made.update(CONFIG_MAP, KEY, config(a="2"), Write())
    before = made.get(CONFIG_MAP, KEY)
    stale = first.decode() | {"data": {"a": "3"}}
    error = refused(made.update, CONFIG_MAP, KEY, stale, Write())
    assert (error.code, error.reason) == (409, "Conflict")
    assert "please apply your changes to the latest version" in error.message
    assert made.get(CONFIG_MAP, KEY) is before


def test_an_update_of_another_uid_is_a_conflict():
    made = registry()
    made.create(CONFIG_MAP, "default", config(), Write())
    other = config()
    other["metadata"]["uid"] = "somebody"
    assert (
        "Precondition failed: UID" in refused(made.update, CONFIG_MAP, KEY, other, Write()).message
    )


def test_what_changes_nothing_takes_no_revision():
    made = registry()
    made.create(DEPLOYMENT, "default", workload("x", 2), Write())
    revision = made.store.revision
    made.update(DEPLOYMENT, KEY, workload("x", 2), Write())
    made.change(DEPLOYMENT, KEY, lambda obj: obj | {"status": {"replicas": 9}}, Write())
    assert made.store.revision == revision


def test_generation_counts_what_is_wanted_and_nothing_else():
    made = registry()
    made.create(DEPLOYMENT, "default", workload("x", 2), Write())

    def generation(change, subresource=""):
        stored = made.change(DEPLOYMENT, KEY, change, Write(), subresource)
        return stored.decode()["metadata"]["generation"]

    assert generation(lambda obj: obj | {"status": {"replicas": 1}}, "status") == 1
    labelled = {"metadata": {"name": "x", "labels": {"a": "b"}}}
    assert generation(lambda obj: obj | labelled) == 1
    assert generation(lambda obj: obj | {"spec": obj["spec"] | {"replicas": 3}}) == 2


def test_status_and_spec_are_written_apart():
    made = registry()
    made.create(POD, "default", pod("x"), Write())
    changed = made.change(
        POD, KEY, lambda o: o | {"spec": {}, "status": {"phase": "Running"}}, Write(), "status"
    ).decode()
    assert changed["status"]["phase"] == "Running"
    assert changed["spec"]["containers"][0]["image"] == "i"
    kept = made.change(POD, KEY, lambda o: o | {"status": {"phase": "Failed"}}, Write()).decode()
    assert kept["status"]["phase"] == "Running"


def test_a_dry_run_says_what_would_be_and_stores_nothing():
    made = registry()
    revision = made.store.revision
    dry = Write(dry_run=True)
    shown = made.create(
        SERVICE, "default", {"metadata": {"name": "x"}, "spec": {"ports": [{"port": 1}]}}, dry
    )
    assert shown.decode()["spec"]["clusterIP"]
    assert made.store[SERVICE].get(KEY) is None
    made.create(CONFIG_MAP, "default", config(), Write())
    assert made.update(CONFIG_MAP, KEY, config(a="1"), dry).decode()["data"] == {"a": "1"}
    made.delete(CONFIG_MAP, KEY, Deletion(), dry)
    assert made.store.revision == revision + 1
    assert (
        "data" not in made.get(CONFIG_MAP, KEY).decode()
        or not made.get(CONFIG_MAP, KEY).decode()["data"]
    )


@pytest.mark.parametrize(
    ("kind", "obj", "field"),
    [
        (POD, {"metadata": {"name": "x"}, "spec": {}}, "spec.containers"),
        (POD, pod("Bad_Name"), "metadata.name"),
        (POD, {"metadata": {}, "spec": pod()["spec"]}, "metadata.name"),
        (POD, pod("x", containers=[{"name": "c"}]), "spec.containers[0].image"),
        (POD, pod("x", restartPolicy="Perhaps"), "spec.restartPolicy"),
        (
            POD,
            pod("x", containers=[{"name": "c", "image": "i", "ports": [{"containerPort": 70000}]}]),
            "spec.containers[0].ports[0].containerPort",
        ),
        (
            POD,
            {"metadata": {"name": "x", "labels": {"a b": ""}}} | {"spec": pod()["spec"]},
            "metadata.labels",
        ),
        (DEPLOYMENT, workload("x", -1), "spec.replicas"),
        (
            DEPLOYMENT,
            workload("x", 1, selector={"matchLabels": {"app": "other"}}),
            "spec.template.metadata.labels",
        ),
        (SERVICE, {"metadata": {"name": "9x"}, "spec": {"ports": [{"port": 1}]}}, "metadata.name"),
        (SERVICE, {"metadata": {"name": "x"}, "spec": {}}, "spec.ports"),
        (
            SERVICE,
            {"metadata": {"name": "x"}, "spec": {"ports": [{"port": 1}, {"port": 2}]}},
            "spec.ports[0].name",
        ),
        (
            SERVICE,
            {"metadata": {"name": "x"}, "spec": {"clusterIP": "10.1.0.1", "ports": [{"port": 1}]}},
            "spec.clusterIPs",
        ),
        (
            kinds.NETWORK_POLICY,
            {
                "metadata": {"name": "x"},
                "spec": {
                    "ingress": [
                        {"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}}]}
                    ]
                },
            },
            "spec.ingress[0].from[0].ipBlock.except[0]",
        ),
        (CONFIG_MAP, {"metadata": {"name": "x"}, "data": {"a/b": ""}}, "data[a/b]"),
    ],
)
def test_what_means_nothing_is_refused_by_the_name_of_its_field(kind, obj, field):
    made = registry()
    revision = made.store.revision
    error = refused(made.create, kind, "default", obj, Write())
    assert (error.code, error.reason) == (422, "Invalid")
    assert field in [cause.field for cause in error.causes]
    assert error.status()["details"]["kind"] == kind.kind
    assert made.store.revision == revision


@pytest.mark.parametrize(
    ("kind", "obj", "change", "field"),
    [
        (
            DEPLOYMENT,
            workload("x", 1),
            workload("x", 1, selector={"matchLabels": {"app": "x", "b": "c"}}) | {},
            "spec.selector",
        ),
        (POD, pod("x"), pod("x", hostNetwork=True), "spec"),
        (CONFIG_MAP, config(a="1") | {"immutable": True}, config(a="2"), "data"),
    ],
)
def test_what_cannot_change_does_not(kind, obj, change, field):
    made = registry()
    made.create(kind, "default", obj, Write())
    if kind is DEPLOYMENT:
        change["spec"]["template"]["metadata"]["labels"] = {"app": "x", "b": "c"}
    error = refused(made.update, kind, KEY, change, Write())
    assert error.code == 422
    assert field in [cause.field for cause in error.causes]


def test_a_pods_image_may_change():
    made = registry()
    made.create(POD, "default", pod("x"), Write())
    changed = pod("x", containers=[{"name": "c", "image": "other"}])
    stored = made.change(
        POD,
        KEY,
        lambda o: (
            o
            | {
                "spec": o["spec"]
                | {"containers": [o["spec"]["containers"][0] | {"image": "other"}]}
            }
        ),
        Write(),
    )
    assert (
        stored.decode()["spec"]["containers"][0]["image"]
        == changed["spec"]["containers"][0]["image"]
    )


def test_unknown_fields_are_dropped_warned_of_or_refused():
    obj = pod("x", colour="red")
    made = registry()
    warned = Write(dry_run=True)
    assert "colour" not in made.create(POD, "default", obj, warned).decode()["spec"]
    assert warned.warnings == ['unknown field "spec.colour"']
    silent = Write(dry_run=True, field_validation=FieldValidation.IGNORE)
    made.create(POD, "default", obj, silent)
    assert silent.warnings == []
    strict = Write(field_validation=FieldValidation.STRICT)
    error = refused(made.create, POD, "default", obj, strict)
    assert (error.code, error.message) == (
        400,
        'strict decoding error: unknown field "spec.colour"',
    )


def test_a_value_of_another_type_is_refused_by_field():
    error = refused(registry().create, DEPLOYMENT, "default", workload("x", "two"), Write())
    assert error.code == 400
    assert "spec.replicas: expected integer, got string" in error.message


def test_a_lease_is_updated_only_by_who_knows_its_version():
    made = registry()
    lease = {"metadata": {"name": "x"}, "spec": {"holderIdentity": "a"}}
    stored = made.create(LEASE, "default", lease, Write())
    error = refused(made.update, LEASE, KEY, lease, Write())
    assert [c.field for c in error.causes] == ["metadata.resourceVersion"]
    made.update(LEASE, KEY, stored.decode() | {"spec": {"holderIdentity": "b"}}, Write())
    late = stored.decode() | {"spec": {"holderIdentity": "c"}}
    assert refused(made.update, LEASE, KEY, late, Write()).code == 409


def deleted(made, kind, key=KEY, **options):
    return made.delete(kind, key, Deletion(**options), Write())


def test_a_pod_of_a_node_waits_for_its_kubelet_and_no_other_does():
    clock = Clock()
    made = registry(clock)
    made.create(POD, "default", pod("x", nodeName="n"), Write())
    stored, gone = deleted(made, POD)
    assert not gone
    metadata = stored.decode()["metadata"]
    assert metadata["deletionTimestamp"] == "2026-01-01T00:00:30Z"
    assert metadata["deletionGracePeriodSeconds"] == 30
    again, gone = deleted(made, POD)
    assert (again, gone) == (stored, False)
    sooner, _ = deleted(made, POD, grace=5)
    assert sooner.decode()["metadata"]["deletionTimestamp"] == "2026-01-01T00:00:05Z"
    later, _ = deleted(made, POD, grace=60)
    assert later == sooner
    assert deleted(made, POD, grace=0)[1]
    made.create(POD, "default", pod("x"), Write())
    assert deleted(made, POD)[1]


def test_what_has_finalizers_stays_until_the_last_is_taken_off():
    made = registry()
    obj = config()
    obj["metadata"]["finalizers"] = ["example.org/one", "example.org/two"]
    made.create(CONFIG_MAP, "default", obj, Write())
    stored, gone = deleted(made, CONFIG_MAP)
    assert not gone
    assert "deletionTimestamp" in stored.decode()["metadata"]

    def without(name):
        def change(o):
            o["metadata"]["finalizers"].remove(name)
            return o

        return change

    made.change(CONFIG_MAP, KEY, without("example.org/one"), Write())
    assert made.get(CONFIG_MAP, KEY)
    made.change(CONFIG_MAP, KEY, without("example.org/two"), Write())
    assert refused(made.get, CONFIG_MAP, KEY).code == 404


def test_a_deletion_can_name_whom_it_means():
    made = registry()
    stored = made.create(CONFIG_MAP, "default", config(), Write())
    assert refused(deleted, made, CONFIG_MAP, uid="other").code == 409
    assert refused(deleted, made, CONFIG_MAP, resource_version="1").code == 409
    assert deleted(made, CONFIG_MAP, uid=stored.uid, resource_version=str(stored.revision))[1]
    assert refused(deleted, made, CONFIG_MAP).code == 404


def test_a_namespace_that_is_going_takes_nothing_new():
    made = registry()
    assert refused(made.create, CONFIG_MAP, "n", config(), Write()).code == 404
    made.create(NAMESPACE, "", {"metadata": {"name": "n"}}, Write())
    assert not deleted(made, NAMESPACE, ("", "n"))[1]
    error = refused(made.create, CONFIG_MAP, "n", config(), Write())
    assert (error.code, error.causes[0].reason) == (403, "NamespaceTerminating")
    assert refused(deleted, made, NAMESPACE, ("", "default")).code == 403


def test_a_pod_is_bound_once():
    made = registry()
    made.create(POD, "default", pod("x"), Write())
    made.bind(KEY, "n1", Write())
    assert made.get(POD, KEY).fields["spec.nodeName"] == "n1"
    assert refused(made.bind, KEY, "n2", Write()).code == 409
    assert refused(made.bind, ("default", "y"), "n2", Write()).code == 404


def test_the_ranges_of_a_node_are_set_once():
    made = registry()
    made.create(NODE, "", {"metadata": {"name": "x"}}, Write())

    def ranges(text):
        return lambda o: o | {"spec": {"podCIDR": text, "podCIDRs": [text]}}

    made.change(NODE, ("", "x"), ranges("10.0.0.0/24"), Write())
    error = refused(made.change, NODE, ("", "x"), ranges("10.0.1.0/24"), Write())
    assert [c.field for c in error.causes] == ["spec.podCIDRs"]
