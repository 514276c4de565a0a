"""Many pods, long names, names that collide, and pods that come and go: all work, nothing stays."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterable

from places import Place, PodPlace, wait_for
from sandbox_lab import NAMESPACE, Lab
from switch_state import expect_exact_flows

from ovsnet.names import IFNAMSIZ, port_name, port_names

MOST = 110
LONGEST_NAME = 253
PORT = 80


def echoes(source: Place, targets: Iterable[PodPlace], version: int) -> set[str]:
    """The names of those who answer a datagram, each asked until it does."""
    wanted = {(pod.address(version), PORT): pod.name.split("/")[-1] for pod in targets}

    def ask() -> set[str]:
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        answered: dict[tuple[str, int], str] = {}
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.settimeout(0.3)
            for _ in range(10):
                missing = wanted.keys() - answered.keys()
                for address in missing:
                    sock.sendto(b"?", address)
                try:
                    while len(answered) < len(wanted):
                        data, sender = sock.recvfrom(2048)
                        answered[sender[:2]] = data.decode().split()[0]
                except TimeoutError:
                    continue
                break
        return {name for address, name in answered.items() if wanted.get(address) == name}

    return source.within(ask)


def test_a_node_full_of_pods_and_then_none_of_them(whole: Lab) -> None:
    """As many pods as a node takes: all are reached by name; then more, with other addresses."""
    asker = whole.running(["c2"])["c2"]
    host = whole.host("node1")
    running = 2
    first = whole.pods([(f"many-{n}", "node1") for n in range(MOST - running)])
    assert len(whole.pod_ports("node1")) == MOST
    assert len({pod.ipv4 for pod in first.values()}) == len(first)
    assert len({pod.ipv6 for pod in first.values()}) == len(first)
    for version in (4, 6):
        assert echoes(asker, first.values(), version) == first.keys()
        assert echoes(host, first.values(), version) == first.keys()
    expect_exact_flows(whole)
    whole.delete_pods(first)
    second = whole.pods([(f"more-{n}", "node1") for n in range(200 - len(first))])
    addresses = {pod.ipv4 for pod in second.values()}
    assert len(addresses) == len(second)
    assert not addresses & {pod.ipv4 for pod in first.values()}
    whole.delete_pods(second)


def test_addresses_are_given_out_in_turn(whole: Lab) -> None:
    """The next one and not the lowest free one, so that none is used again at once."""
    offsets = []
    for n in range(4):
        pod = whole.pods([(f"turn-{n}", "node2")])[f"turn-{n}"]
        offsets.append(int(pod.ipv4) & 0xFF)
        assert int(pod.ipv6) & 0xFF == offsets[-1]
        whole.delete_pods([f"turn-{n}"])
    assert all(b == a + 1 or b < a for a, b in itertools.pairwise(offsets))


def test_a_pods_name_may_be_as_long_as_names_are(whole: Lab) -> None:
    label = "a-very-long-name-indeed-" * 3
    name = ".".join([label[:62], label[:62], label[:62], "x" * 64])[:LONGEST_NAME]
    assert len(name) == LONGEST_NAME
    other = name[:-1] + "y"
    made = whole.pods([(name, "node1"), (other, "node1")])
    ports = {port_name(NAMESPACE, pod, place.uid) for pod, place in made.items()}
    assert len(ports) == 2
    assert ports <= whole.pod_ports("node1")
    assert all(len(port) <= IFNAMSIZ for port in whole.pod_ports("node1"))
    c2 = whole.running(["c2"])["c2"]
    for pod, place in made.items():
        assert c2.run("ping", "-n", "-c", "1", "-W", "2", str(place.ipv4)), pod


def test_two_pods_whose_port_names_collide_both_work(whole: Lab) -> None:
    """Their uids were found by trying, about a million each."""
    pods = {"red": "1011748", "blue": "38145"}
    assert len({port_name(namespace, "web-0", uid) for namespace, uid in pods.items()}) == 1
    for namespace in pods:
        whole.api("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    for namespace, uid in pods.items():
        assert whole.post_pod("web-0", "node1", namespace, uid)["metadata"]["uid"] == uid
    c2 = whole.running(["c2"])["c2"]
    made = {namespace: whole.running(["web-0"], namespace)["web-0"] for namespace in pods}
    assert made["red"].ipv4 != made["blue"].ipv4
    present = whole.pod_ports("node1")
    for namespace, place in made.items():
        assert len(present & set(port_names(namespace, "web-0", place.uid))) == 1
        wait_for(lambda place=place: echoes(c2, [place], 4), f"{place.name} to answer")
        assert made["red"].run("ping", "-n", "-c", "1", "-W", "2", str(made["blue"].ipv4))
    expect_exact_flows(whole)
