"""What is wrong with a request is named, with the specification's code, and nothing is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cni_node import Pod, TestNode

ADD = {"cniVersion": "1.1.0", "name": "ovsnet", "type": "ovsnet"}


def without(name: str) -> dict[str, Any]:
    return {k: v for k, v in ADD.items() if k != name}


@pytest.mark.parametrize(
    ("stdin", "code", "named"),
    [
        (b"", 6, "empty"),
        (b"{", 6, "JSON"),
        (b"\xff\xfe", 6, "JSON"),
        (b"[]", 6, "object"),
        (b'{"cniVersion":"1.1.0","type":"ovsnet"}', 7, "name"),
        (b'{"cniVersion":"1.1.0","name":"a b","type":"ovsnet"}', 7, "name"),
        (b'{"cniVersion":"0.2.0","name":"n","type":"ovsnet"}', 1, "0.2.0"),
        (b'{"cniVersion":"9.0.0","name":"n","type":"ovsnet"}', 1, "9.0.0"),
        (b'{"cniVersion":[1],"name":"n","type":"ovsnet"}', 1, "cniVersion"),
        (b'{"name":"n","type":"ovsnet"}', 1, "missing"),
        (b'{"cniVersion":"1.1.0","name":"n","type":"ovsnet","brige":"x"}', 2, 'brige: "x"'),
        (b'{"cniVersion":"1.1.0","name":"n","type":"ovsnet","ipam":3}', 7, "ipam"),
        (b'{"cniVersion":"1.1.0","name":"n","type":"ovsnet","ipam":{"type":"/x"}}', 7, "ipam.type"),
        (b'{"cniVersion":"1.1.0","name":"n","type":"ovsnet","ipam":{"type":"no"}}', 7, "'no'"),
        (b'{"cniVersion":"1.1.0","name":"n","type":"ovsnet","prevResult":{}}', 7, "prevResult"),
    ],
)
def test_network_configuration(
    node: TestNode, pod: Pod, stdin: bytes, code: int, named: str
) -> None:
    outcome = node.call("ADD", pod, stdin)
    assert outcome.status == 1
    assert outcome.code == code, outcome
    assert named in outcome.message
    assert not node.leftovers()


@pytest.mark.parametrize(
    ("variable", "value", "code"),
    [
        ("CNI_COMMAND", None, 4),
        ("CNI_COMMAND", "FLY", 4),
        ("CNI_CONTAINERID", None, 4),
        ("CNI_CONTAINERID", "../x", 4),
        ("CNI_IFNAME", None, 4),
        ("CNI_IFNAME", "a-name-of-more-than-15", 4),
        ("CNI_IFNAME", "a/b", 4),
        ("CNI_NETNS", None, 4),
        ("CNI_NETNS", "/run/netns/there-is-none", 3),
        ("CNI_NETNS", "/etc/hostname", 4),
        ("CNI_NETNS", "/run", 4),
        ("CNI_ARGS", None, 4),
        ("CNI_ARGS", "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web", 4),
        ("CNI_ARGS", "K8S_POD_NAMESPACE=;K8S_POD_NAME=web;K8S_POD_UID=u", 4),
    ],
)
def test_environment(node: TestNode, pod: Pod, variable: str, value: str | None, code: int) -> None:
    outcome = node.call("ADD", pod, **{variable: value})
    assert (outcome.status, outcome.code) == (1, code), outcome
    assert variable in outcome.message
    assert not node.leftovers()


def test_missing_arguments_are_named(node: TestNode, pod: Pod) -> None:
    message = node.call("ADD", pod, CNI_ARGS="K8S_POD_NAME=web").message
    assert "K8S_POD_NAMESPACE, K8S_POD_UID" in message


def test_the_nodes_own_namespace(node: TestNode, pod: Pod) -> None:
    outcome = node.call("ADD", pod, CNI_NETNS=str(Path("/run/netns", node.netns)))
    assert (outcome.code, "own network namespace" in outcome.message) == (4, True)


@pytest.mark.parametrize(
    ("verb", "version"),
    [("CHECK", "0.3.1"), ("GC", "1.0.0"), ("STATUS", "0.4.0"), ("GC", "0.3.1")],
)
def test_a_verb_that_the_version_does_not_have(
    node: TestNode, pod: Pod, verb: str, version: str
) -> None:
    outcome = node.call(verb, pod, {"cniVersion": version})
    assert (outcome.code, verb in outcome.message) == (1, True)


def test_an_error_is_told_in_the_version_that_was_asked(node: TestNode, pod: Pod) -> None:
    outcome = node.call("ADD", pod, {"cniVersion": "0.4.0"}, CNI_NETNS=None)
    assert outcome.output["cniVersion"] == "0.4.0"
