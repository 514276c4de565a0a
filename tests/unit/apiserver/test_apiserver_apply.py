"""Server-side apply: who owns what, over generated sequences of configurations."""

from __future__ import annotations

import pytest
from apiserver_cluster import registry, workload
from hypothesis import given, settings
from hypothesis import strategies as st

from ovsnet.sandbox.apiserver import schema
from ovsnet.sandbox.apiserver.fieldsets import decode_set, encode_set, leaves
from ovsnet.sandbox.apiserver.kinds import CONFIG_MAP, DEPLOYMENT, SERVICE
from ovsnet.sandbox.apiserver.registry import Write
from ovsnet.sandbox.apiserver.status import ApiError

KEY = ("default", "x")


def apply(made, kind, config, manager, force=False):
    full = {"apiVersion": kind.api_version, "kind": kind.kind} | config
    return made.apply(kind, KEY, full, Write(manager=manager), force=force)[0].decode()


def config(**data):
    return {"metadata": {"name": "x"}, "data": data}


datas = st.dictionaries(st.sampled_from("abc"), st.sampled_from("12"), max_size=3)
operations = st.lists(
    st.tuples(st.sampled_from(("one", "two", "update")), datas, st.booleans()), max_size=8
)


@settings(max_examples=60)
@given(operations)
def test_fields_belong_to_whom_the_rules_say(sequence):
    """The oracle keeps, for each key of a ConfigMap, its value and the set of its owners."""
    made = registry()
    values: dict[str, str] = {}
    owners: dict[str, set[str]] = {}
    apply(made, CONFIG_MAP, config(), "first")
    for manager, data, force in sequence:
        if manager == "update":
            made.change(CONFIG_MAP, KEY, lambda o, d=data: o | {"data": d}, Write(manager="update"))
            for key in set(values) | set(data):
                if values.get(key) != data.get(key):
                    owners[key] = {"update"}
            values = dict(data)
        else:
            disputed = {
                key
                for key, value in data.items()
                if key in values and values[key] != value and owners[key] - {manager}
            }
            if disputed and not force:
                with pytest.raises(ApiError) as caught:
                    apply(made, CONFIG_MAP, config(**data), manager)
                assert caught.value.code == 409
                assert {c.field for c in caught.value.causes} == {
                    f".data.{key}" for key in disputed
                }
                assert {c.reason for c in caught.value.causes} == {"FieldManagerConflict"}
                continue
            apply(made, CONFIG_MAP, config(**data), manager, force)
            for key in list(values):
                if key not in data and manager in owners[key]:
                    owners[key].discard(manager)
                    if not owners[key]:
                        del values[key]
            for key, value in data.items():
                if values.get(key) != value:
                    owners[key] = set()
                owners[key].add(manager)
                values[key] = value
        stored = made.get(CONFIG_MAP, KEY).decode()
        assert stored.get("data", {}) == values
        recorded: dict[str, set[str]] = {}
        for entry in stored["metadata"].get("managedFields", ()):
            for path in decode_set(entry["fieldsV1"]):
                if path[0] == "f:data" and len(path) == 2:
                    recorded.setdefault(path[1][2:], set()).add(entry["manager"])
        assert recorded == {key: owners[key] for key in values}


def test_applying_the_same_again_changes_nothing():
    made = registry()
    apply(made, DEPLOYMENT, workload("x", 2), "one")
    revision = made.store.revision
    apply(made, DEPLOYMENT, workload("x", 2), "one")
    assert made.store.revision == revision


def test_a_container_goes_when_its_only_owner_drops_it_and_stays_when_another_has_it():
    made = registry()
    both = workload("x", 1)
    both["spec"]["template"]["spec"]["containers"].append({"name": "side", "image": "s"})
    apply(made, DEPLOYMENT, both, "one")

    def names(obj):
        return [c["name"] for c in obj["spec"]["template"]["spec"]["containers"]]

    other = workload("x")
    other["spec"]["template"]["spec"]["containers"] = [{"name": "side", "image": "s"}]
    apply(made, DEPLOYMENT, other, "two")
    assert names(apply(made, DEPLOYMENT, workload("x", 1), "one")) == ["c", "side"]
    del other["spec"]["template"]["spec"]["containers"]
    # What the server filled in for the container was never anybody's, and goes with it.
    assert names(apply(made, DEPLOYMENT, other, "two")) == ["c"]


def test_ports_of_a_service_are_told_apart_by_port_and_protocol():
    made = registry()

    def service(*ports):
        return {"metadata": {"name": "x"}, "spec": {"ports": list(ports)}}

    dns = {"name": "dns", "port": 53, "protocol": "UDP"}
    apply(made, SERVICE, service({"name": "tcp", "port": 53}, dns), "one")
    stored = apply(
        made, SERVICE, service({"name": "tcp", "port": 53, "targetPort": 5353}, dns), "one"
    )
    assert [(p["protocol"], p["targetPort"]) for p in stored["spec"]["ports"]] == [
        ("TCP", 5353),
        ("UDP", 53),
    ]
    assert [p["name"] for p in apply(made, SERVICE, service(dns), "one")["spec"]["ports"]] == [
        "dns"
    ]


def test_a_scaler_and_an_applier_disagree_over_replicas():
    made = registry()
    apply(made, DEPLOYMENT, workload("x", 2), "kubectl")

    def scaled(obj):
        obj["spec"]["replicas"] = 5
        return obj

    made.change(DEPLOYMENT, KEY, scaled, Write(manager="scaler"), "scale")
    with pytest.raises(ApiError) as caught:
        apply(made, DEPLOYMENT, workload("x", 2), "kubectl")
    assert [c.field for c in caught.value.causes] == [".spec.replicas"]
    assert 'conflict with "scaler" with subresource "scale"' in caught.value.message
    assert apply(made, DEPLOYMENT, workload("x"), "kubectl")["spec"]["replicas"] == 5


def test_an_object_made_otherwise_belongs_to_before_the_first_apply():
    made = registry()
    made.create(CONFIG_MAP, "default", config(a="1"), Write(manager="kubectl-create"))
    assert "managedFields" not in made.get(CONFIG_MAP, KEY).decode()["metadata"]
    apply(made, CONFIG_MAP, config(a="1"), "one")
    with pytest.raises(ApiError, match="before-first-apply"):
        apply(made, CONFIG_MAP, config(a="2"), "one")


@given(st.integers(0, 3), st.integers(0, 3))
def test_a_set_of_fields_survives_its_encoding(containers, ports):
    obj = workload("x", 1)
    obj["metadata"] |= {"labels": {"a/b": "", "x.y": "1"}, "finalizers": ["f.example/1"]}
    obj["spec"]["template"]["spec"]["containers"] = [
        {
            "name": f"c{n}",
            "image": "i",
            "ports": [{"containerPort": p} for p in range(1, ports + 1)],
        }
        for n in range(containers)
    ]
    fields = frozenset(leaves(obj, schema.of_kind(DEPLOYMENT)))
    assert decode_set(encode_set(fields)) == fields
