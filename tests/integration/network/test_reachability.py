"""Everybody who may reach each other does, in both families, with packets of every size."""

from __future__ import annotations

import hashlib
import http.client
import itertools
import re
import socket

import pytest
from places import Place, PodPlace
from sandbox_lab import Lab

POD_MTU = 1450
HEADERS = {4: 28, 6: 48}
TRANSFER = 5_000_000

FAMILIES = pytest.mark.parametrize("version", [4, 6])


def ping(source: Place, target: str, *options: str) -> bool:
    command = ("ping", "-n", "-c", "1", "-W", "2", *options, target)
    return source.run(*command, check=False).returncode == 0


def ask(source: Place, target: str, path: str, port: int = 80) -> tuple[bytes, dict[str, str]]:
    """The answer of a responder to an HTTP request."""

    def request() -> tuple[bytes, dict[str, str]]:
        connection = http.client.HTTPConnection(target, port, timeout=5)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.read(), dict(response.getheaders())
        finally:
            connection.close()

    return source.within(request)


def echo(source: Place, target: str, payload: bytes, port: int = 80) -> bytes:
    """The answer of a responder to a datagram."""

    def request() -> bytes:
        family = socket.AF_INET6 if ":" in target else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.settimeout(5)
            sock.connect((target, port))
            sock.send(payload)
            return sock.recv(65535)

    return source.within(request)


def client_of(answer: bytes) -> str:
    return re.sub(r":\d+$", "", answer.decode()).strip("[]")


def expect_reached(source: Place, target: Place, version: int, seen_as: str) -> None:
    """ICMP, TCP and UDP all get there, and the target sees who it is."""
    address = target.address(version)
    assert ping(source, address), (source.name, target.name)
    pod = target.name.split("/")[-1]
    assert ask(source, address, "/hostname")[0].decode() == pod
    assert client_of(ask(source, address, "/clientip")[0]) == seen_as
    assert echo(source, address, b"hello") == pod.encode() + b" hello"


@FAMILIES
def test_every_pod_reaches_every_pod(lab: Lab, pods: dict[str, PodPlace], version: int) -> None:
    for source, target in itertools.permutations(pods.values(), 2):
        expect_reached(source, target, version, source.address(version))


@FAMILIES
def test_a_pod_reaches_itself(lab: Lab, pods: dict[str, PodPlace], version: int) -> None:
    expect_reached(pods["a1"], pods["a1"], version, pods["a1"].address(version))


@FAMILIES
def test_every_node_reaches_every_pod_with_its_address_on_the_pod_network(
    lab: Lab, pods: dict[str, PodPlace], version: int
) -> None:
    for name in lab.nodes:
        node = lab.host(name)
        for pod in pods.values():
            expect_reached(node, pod, version, node.address(version))


@FAMILIES
def test_every_pod_reaches_every_node(lab: Lab, pods: dict[str, PodPlace], version: int) -> None:
    for pod in pods.values():
        for name in lab.nodes:
            assert ping(pod, lab.underlay(name).address(version)), (pod.name, name)
            # A node's side of the pod network is there for its own pods, and for other nodes'.
            assert ping(pod, lab.host(name).address(version)), (pod.name, name)


@FAMILIES
def test_the_outside_sees_a_pods_node_and_not_the_pod(
    lab: Lab, pods: dict[str, PodPlace], version: int
) -> None:
    for pod in pods.values():
        node = lab.underlay(pod.node).address(version)
        expect_reached(pod, lab.outside, version, node)


@FAMILIES
def test_the_outside_cannot_begin_a_conversation_with_a_pod(
    lab: Lab, pods: dict[str, PodPlace], version: int
) -> None:
    assert not ping(lab.outside, pods["a1"].address(version), "-W", "0.3")


@FAMILIES
@pytest.mark.parametrize(
    ("source", "target"), [("a1", "b1"), ("a1", "a2"), ("a1", "node1"), ("node1", "a2")]
)
def test_a_full_packet_passes_and_one_byte_more_is_refused(
    lab: Lab, pods: dict[str, PodPlace], version: int, source: str, target: str
) -> None:
    places = {**pods, "node1": lab.host("node1")}
    whole = POD_MTU - HEADERS[version]
    address = places[target].address(version)
    assert ping(places[source], address, "-M", "do", "-s", str(whole))
    done = places[source].run(
        *("ping", "-n", "-c", "1", "-W", "0.1", "-M", "do", "-s", str(whole + 1), address),
        check=False,
    )
    assert done.returncode != 0
    assert "too long" in done.stdout + done.stderr


@FAMILIES
@pytest.mark.parametrize("target", ["b1", "a2"])
def test_a_packet_in_fragments_arrives(
    lab: Lab, pods: dict[str, PodPlace], version: int, target: str
) -> None:
    payload = bytes(range(256)) * 12
    answer = echo(pods["a1"], pods[target].address(version), payload)
    assert answer == target.encode() + b" " + payload


@FAMILIES
@pytest.mark.parametrize("target", ["b1", "a2", "outside"])
def test_five_megabytes_arrive_unharmed(
    lab: Lab, pods: dict[str, PodPlace], version: int, target: str
) -> None:
    places = {**pods, "outside": lab.outside}
    body, headers = ask(pods["a1"], places[target].address(version), f"/bytes/{TRANSFER}")
    assert len(body) == TRANSFER
    assert hashlib.sha256(body).hexdigest() == headers["Digest"]
