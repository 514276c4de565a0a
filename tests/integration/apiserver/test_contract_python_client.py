"""The official Python client. Runs on the embedded and on a real server."""

from __future__ import annotations

import pytest
from kubernetes import client, watch
from kubernetes.client.exceptions import ApiException


@pytest.fixture
def core(target):
    return client.CoreV1Api(target.api)


def config_map(name, **labels):
    return client.V1ConfigMap(
        metadata=client.V1ObjectMeta(name=name, labels=labels), data={"k": "0"}
    )


def test_create_read_replace_patch_delete(core, namespace):
    made = core.create_namespaced_config_map(namespace, config_map("x"))
    assert made.metadata.uid
    made.data["k"] = "1"
    changed = core.replace_namespaced_config_map("x", namespace, made)
    with pytest.raises(ApiException) as caught:
        core.replace_namespaced_config_map("x", namespace, made)
    assert caught.value.status == 409
    patched = core.patch_namespaced_config_map("x", namespace, {"data": {"l": "2"}})
    assert patched.data == {"k": "1", "l": "2"}
    assert patched.metadata.resource_version != changed.metadata.resource_version
    core.delete_namespaced_config_map("x", namespace)
    with pytest.raises(ApiException) as caught:
        core.read_namespaced_config_map("x", namespace)
    assert caught.value.reason == "Not Found"


def test_list_and_watch_go_together(core, namespace):
    listed = core.list_namespaced_config_map(namespace)
    for name in ("a", "b"):
        core.create_namespaced_config_map(namespace, config_map(name))
    core.delete_namespaced_config_map("a", namespace)
    stream = watch.Watch().stream(
        core.list_namespaced_config_map,
        namespace,
        resource_version=listed.metadata.resource_version,
        label_selector="!nothing",
        timeout_seconds=5,
    )
    seen = []
    for event in stream:
        seen.append((event["type"], event["object"].metadata.name))
        if len(seen) == 3:
            break
    assert seen == [("ADDED", "a"), ("ADDED", "b"), ("DELETED", "a")]


def test_typed_objects_of_every_group_come_back(target, namespace):
    labels = {"app": "x"}
    template = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels=labels),
        spec=client.V1PodSpec(
            scheduler_name="nobody", containers=[client.V1Container(name="c", image="i")]
        ),
    )
    selector = client.V1LabelSelector(match_labels=labels)
    spec = client.V1DeploymentSpec(replicas=1, selector=selector, template=template)
    meta = client.V1ObjectMeta(name="x")
    apps = client.AppsV1Api(target.api)
    made = apps.create_namespaced_deployment(
        namespace, client.V1Deployment(metadata=meta, spec=spec)
    )
    assert made.spec.strategy.rolling_update.max_surge == "25%"
    networking = client.NetworkingV1Api(target.api)
    policy = client.V1NetworkPolicy(
        metadata=meta, spec=client.V1NetworkPolicySpec(pod_selector=selector)
    )
    assert networking.create_namespaced_network_policy(namespace, policy).spec.policy_types == [
        "Ingress"
    ]
    discovery = client.DiscoveryV1Api(target.api)
    slice_ = client.V1EndpointSlice(
        metadata=meta,
        address_type="IPv4",
        endpoints=[client.V1Endpoint(addresses=["10.1.2.3"])],
        ports=[client.DiscoveryV1EndpointPort(port=80)],
    )
    assert discovery.create_namespaced_endpoint_slice(namespace, slice_).ports[0].protocol == "TCP"
    leases = client.CoordinationV1Api(target.api)
    lease = client.V1Lease(metadata=meta, spec=client.V1LeaseSpec(holder_identity="me"))
    assert leases.create_namespaced_lease(namespace, lease).spec.holder_identity == "me"


def test_a_list_is_had_in_pages(core, namespace):
    for number in range(5):
        core.create_namespaced_config_map(namespace, config_map(f"p{number}", page="yes"))
    names, token = [], None
    while True:
        page = core.list_namespaced_config_map(
            namespace, limit=2, label_selector="page=yes", _continue=token
        )
        names += [item.metadata.name for item in page.items]
        token = page.metadata._continue
        if not token:
            break
    assert names == [f"p{number}" for number in range(5)]
