"""Pods that kubelet has from a file: the plugin hears of another uid than the API's copy has."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sandbox_lab import NAMESPACE, Lab

from ovsnet.sandbox import netns

PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
HASH = uuid.uuid4().hex


@pytest.fixture
def static(whole: Lab) -> Iterator[str]:
    """The name of a static pod of node1; kubelet has made its copy in the API."""
    name = "static-node1"
    with whole.stopped("kubelet-node1"):
        annotations = {
            "kubernetes.io/config.hash": HASH,
            "kubernetes.io/config.mirror": HASH,
            "kubernetes.io/config.source": "file",
        }
        whole.api(
            "POST",
            PODS,
            {
                "metadata": {"name": name, "annotations": annotations},
                "spec": {"nodeName": "node1", "containers": [{"name": "main", "image": "none"}]},
            },
        )
        yield name
        whole.api("DELETE", f"{PODS}/{name}", {"gracePeriodSeconds": 0})


def test_a_static_pod_is_let_in_by_its_hash(whole: Lab, static: str) -> None:
    other = whole.pods([("other", "node2")])["other"]
    target = whole.container("node1", NAMESPACE, static, HASH)
    try:
        added = whole.plugin("node1", "ADD", target)
        assert added.status == 0, added.message
        address = added.output["ips"][0]["address"].split("/")[0]
        assert other.run("ping", "-n", "-c", "1", "-W", "2", address)
        # The copy may be made anew, with another uid, while the pod runs.
        pod = whole.api("GET", f"{PODS}/{static}")
        whole.api("DELETE", f"{PODS}/{static}", {"gracePeriodSeconds": 0})
        metadata = {k: pod["metadata"][k] for k in ("name", "annotations")}
        again = whole.api("POST", PODS, {"metadata": metadata, "spec": pod["spec"]})
        assert again["metadata"]["uid"] != pod["metadata"]["uid"]
        whole.wait_until_steady()
        assert other.run("ping", "-n", "-c", "1", "-W", "2", address)
    finally:
        whole.plugin("node1", "DEL", target)
        netns.delete(Path(target.netns))


def test_the_uid_of_the_copy_is_nobodys(whole: Lab, static: str) -> None:
    uid = whole.api("GET", f"{PODS}/{static}")["metadata"]["uid"]
    target = whole.container("node1", NAMESPACE, static, uid)
    try:
        refused = whole.plugin("node1", "ADD", target)
        assert (refused.status, refused.code) == (1, 11)
    finally:
        whole.plugin("node1", "DEL", target)
        netns.delete(Path(target.netns))
