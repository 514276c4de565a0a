"""SCTP where the machine has it: between pods, by services and through policies that name ports.

The tracker of the userspace datapath knows no ports of SCTP. What it forbids and what it allows all
the same is told of in `test_policy_complaints`.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import datapath
import pytest
from in_effect import expect_settled
from places import Place, PodPlace
from sandbox_lab import NAMESPACE, Lab
from sandbox_runs import sandbox
from slowness import SLOW

from ovsnet.model import ContainerPort

if datapath.USERSPACE:
    pytest.skip("only the kernel's datapath knows the ports of SCTP", allow_module_level=True)

PORT, OTHER = 8132, 8133
PORTS = tuple(ContainerPort(f"sctp-{number}", number, "SCTP") for number in (PORT, OTHER))
FAMILIES = (4, 6)
POLICIES = f"/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/networkpolicies"
SERVICES = f"/api/v1/namespaces/{NAMESPACE}/services"
PATIENCE, SILENCE = 15.0 * SLOW, 4.0
REFUSED, SILENT = "refused", "silent"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with sandbox("sctptest", "a", 2) as made:
        yield made


@pytest.fixture(scope="module")
def pods(lab: Lab) -> dict[str, PodPlace]:
    """Two servers on either node, and a client."""
    for name, node in (("near", "node1"), ("far", "node2"), ("client", "node1")):
        lab.post_pod(name, node, labels={"app": name, "tier": "all"}, ports=PORTS)
    return lab.running(["near", "far", "client"])


def call(place: Place, address: str, port: int, patience: float = PATIENCE) -> str:
    """Who answers, or that nobody does or that it is refused."""

    def ask() -> str:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_SCTP) as sock:
            sock.settimeout(patience)
            try:
                sock.connect((address, port))
                sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
                answer = b""
                while part := sock.recv(65535):
                    answer += part
            except ConnectionRefusedError:
                return REFUSED
            except TimeoutError:
                return SILENT
        pod: str = json.loads(answer.partition(b"\r\n\r\n")[2])["pod"]
        return pod

    return place.within(ask)


@contextmanager
def applied(lab: Lab, path: str, body: dict[str, object]) -> Iterator[dict[str, object]]:
    """An object that is in effect for as long as this lasts."""
    made = lab.api("POST", path, body)
    try:
        expect_settled(lab)
        yield made
    finally:
        lab.api("DELETE", f"{path}/{made['metadata']['name']}")
        expect_settled(lab)


def service(lab: Lab, app: str) -> dict[str, object]:
    return {
        "metadata": {"name": f"svc-{app}"},
        "spec": {
            "type": "NodePort",
            "ipFamilyPolicy": "RequireDualStack",
            "selector": {"app": app},
            "ports": [{"port": 132, "targetPort": PORT, "protocol": "SCTP"}],
        },
    }


def policy(name: str, app: str, **rules: object) -> dict[str, object]:
    spec = {"podSelector": {"matchLabels": {"app": app}}, **rules}
    spec["policyTypes"] = [kind.capitalize() for kind in rules]
    return {"metadata": {"name": name}, "spec": spec}


def only(port: int) -> list[dict[str, object]]:
    return [{"ports": [{"protocol": "SCTP", "port": port}]}]


@pytest.mark.parametrize("version", FAMILIES)
def test_pods_reach_each_other(pods: dict[str, PodPlace], version: int) -> None:
    for server in ("near", "far"):
        assert call(pods["client"], pods[server].address(version), PORT) == server


@pytest.mark.parametrize("version", FAMILIES)
def test_a_port_where_nobody_listens_is_refused_by_the_pod(
    pods: dict[str, PodPlace], version: int
) -> None:
    for server in ("near", "far"):
        assert call(pods["client"], pods[server].address(version), PORT + 10) == REFUSED


@pytest.mark.parametrize("app", ["near", "far"])
def test_a_service_is_reached_from_everywhere(
    lab: Lab, pods: dict[str, PodPlace], app: str
) -> None:
    callers = [*pods.values(), lab.host("node1"), lab.host("node2")]
    with applied(lab, SERVICES, service(lab, app)) as made:
        spec = made["spec"]
        assert isinstance(spec, dict)
        number = spec["ports"][0]["nodePort"]
        for version, address in zip(FAMILIES, spec["clusterIPs"], strict=True):
            for caller in callers:
                assert call(caller, address, 132) == app, (caller.name, version)
            for node in lab.nodes:
                door = lab.underlay(node).address(version)
                assert call(lab.outside, door, number) == app, (node, version)


@pytest.mark.parametrize("server", ["near", "far"])
def test_a_policy_allows_one_port_and_no_other(
    lab: Lab, pods: dict[str, PodPlace], server: str
) -> None:
    client, called = pods["client"], pods[server]
    for body in (
        policy("into", server, ingress=only(PORT)),
        policy("out-of", "client", egress=only(PORT)),
    ):
        with applied(lab, POLICIES, body):
            for version in FAMILIES:
                address = called.address(version)
                assert call(client, address, PORT) == server
                assert call(client, address, OTHER, SILENCE) == SILENT
    for version in FAMILIES:
        assert call(client, called.address(version), OTHER) == server


def test_a_policy_judges_what_a_service_leads_to(lab: Lab, pods: dict[str, PodPlace]) -> None:
    with applied(lab, SERVICES, service(lab, "far")) as made:
        spec = made["spec"]
        assert isinstance(spec, dict)
        for allowed, heard in ((PORT, "far"), (OTHER, SILENT)):
            with applied(lab, POLICIES, policy("into", "far", ingress=only(allowed))):
                for address in spec["clusterIPs"]:
                    patience = PATIENCE if heard == "far" else SILENCE
                    assert call(pods["client"], address, 132, patience) == heard
