"""The pods of the tests of policy, who they are, and what they are told to be.

Every test begins and ends in a town without policies, in which everybody has the labels of `PODS`
and `SPACES`. The quiet pods, one on each node, are in a namespace that no test writes a policy in:
their packets to each other show that a way is open.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from in_effect import expect_settled
from places import Place, PodPlace
from policy_objects import container_port, labels
from policy_wire import wire_spec
from sandbox_lab import NAMESPACE, Lab
from switch_state import world

from ovsnet.model import IPAddress, NetworkPolicy, PolicyRef
from ovsnet.policy.world import World

Labels = tuple[tuple[str, str], ...]

QUIET = "quiet"
SPACES = {"shop": "team=a", "bank": "team=b", NAMESPACE: "", QUIET: ""}


@dataclass(frozen=True)
class Citizen:
    """A pod: its node, and labels and ports in words (see `policy_objects`)."""

    node: str
    labels: str
    ports: tuple[str, ...] = ()
    host_network: bool = False


PODS = {
    "shop/web": Citizen("node1", "app=web; tier=front", ("http=80", "dns=53/UDP")),
    "shop/db": Citizen("node1", "app=db", ("http=8080", "dns=53/TCP")),
    "shop/far": Citizen("node2", "app=web; tier=back", ("http=8000", "http=8000/UDP")),
    "bank/web": Citizen("node2", "app=web; env=live", ("http=8080", "dns=5353/UDP")),
    "bank/db": Citizen("node3", "app=db; env=test", ("http=80", "http=8080/UDP")),
    "lab/odd": Citizen("node3", "", ("http=443",)),
    "lab/web": Citizen("node1", "app=web"),
    "shop/host": Citizen("node2", "app=web; tier=front", ("http=8088",), host_network=True),
}


@dataclass(frozen=True)
class Town:
    """A sandbox with its pods, by namespace/name. `quiet` are the quiet pods by their nodes."""

    lab: Lab
    pods: Mapping[str, PodPlace]
    quiet: Mapping[str, PodPlace]
    nodes: Mapping[str, Place]

    @property
    def places(self) -> dict[str, Place]:
        """Every place where packets are sent and looked for, by name."""
        quiet = {place.name: place for place in self.quiet.values()}
        return {**self.pods, **quiet, **self.nodes}

    def pod_of(self, address: IPAddress) -> PodPlace | None:
        """The pod that has an address."""
        places = (*self.pods.values(), *self.quiet.values())
        return next((place for place in places if address in (place.ipv4, place.ipv6)), None)

    def address(self, name: str, version: int) -> str:
        """The address of a pod, a node (its gateway), `NODE's underlay`, or the outside."""
        if name == "outside":
            return self.lab.outside.address(version)
        if name.startswith("underlay of "):
            return self.lab.underlay(name.removeprefix("underlay of ")).address(version)
        return self.places[name].address(version)

    def world(self) -> World:
        """What decides about traffic now."""
        return world(self.lab)

    def write(self, *policies: NetworkPolicy) -> None:
        """Make these policies, or change those that are there."""
        there = {ref(item) for item in self._policies()}
        for policy in policies:
            body = {"metadata": {"name": policy.name}, "spec": wire_spec(policy)}
            if policy.ref in there:
                self.lab.api("PUT", path(policy.ref), body)
            else:
                self.lab.api("POST", path(policy.ref).rpartition("/")[0], body)

    def remove(self, *refs: PolicyRef) -> None:
        for each in refs:
            self.lab.api("DELETE", path(each))

    def remove_all(self) -> None:
        """Remove every policy."""
        self.remove(*map(ref, self._policies()))

    def _policies(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.lab.api("GET", _POLICIES)["items"]
        return items

    def label(self, name: str, wanted: Labels) -> None:
        """Give a pod, or a namespace, these labels and no others."""
        space, _, pod = name.partition("/")
        at = f"/api/v1/namespaces/{space}" + (f"/pods/{pod}" if pod else "")
        had = self.lab.api("GET", at)["metadata"].get("labels") or {}
        gone = {key for key in had.keys() - dict(wanted) if not key.startswith(_OF_THE_API)}
        if gone or set(wanted) - had.items():
            changes = dict.fromkeys(gone) | dict(wanted)
            self.lab.api("PATCH", at, {"metadata": {"labels": changes}}, "merge")

    def reset(self) -> None:
        """No policies, and everybody as they were."""
        self.remove_all()
        for space, words in SPACES.items():
            self.label(space, labels(words))
        for name, citizen in PODS.items():
            self.label(name, labels(citizen.labels))

    def settle(self) -> None:
        """Wait until all that was written is in effect."""
        expect_settled(self.lab)

    def enforce(self, *policies: NetworkPolicy) -> None:
        """Have these policies and no others, in effect."""
        kept = {policy.ref for policy in policies}
        self.write(*policies)
        self.remove(*(found for item in self._policies() if (found := ref(item)) not in kept))
        self.settle()


def path(policy: PolicyRef) -> str:
    """Where the API server has a policy."""
    return f"{_GROUP}/namespaces/{policy.namespace}/networkpolicies/{policy.name}"


_GROUP = "/apis/networking.k8s.io/v1"
_POLICIES = f"{_GROUP}/networkpolicies"
_OF_THE_API = "kubernetes.io/"


def ref(item: dict[str, Any]) -> PolicyRef:
    """Which policy an object of the API is."""
    return PolicyRef(item["metadata"]["namespace"], item["metadata"]["name"])


def build(lab: Lab) -> Town:
    """Make all pods and wait until they run."""
    for space, words in SPACES.items() - {(NAMESPACE, "")}:
        lab.api("POST", "/api/v1/namespaces", {"metadata": _named(space, words)})
    for name, citizen in PODS.items():
        space, _, short = name.partition("/")
        lab.post_pod(
            short,
            citizen.node,
            space,
            labels=dict(labels(citizen.labels)),
            ports=[container_port(text) for text in citizen.ports],
            host_network=citizen.host_network,
        )
    places: dict[str, PodPlace] = {}
    for space in SPACES:
        names = [name for name in PODS if name.startswith(f"{space}/")]
        found = lab.running([name.split("/")[1] for name in names], space)
        places |= {place.name: place for place in found.values()}
    quiet = lab.pods([(f"quiet-{name}", name) for name in lab.nodes], QUIET)
    return Town(
        lab,
        places,
        {place.node: place for place in quiet.values()},
        {name: lab.host(name) for name in lab.nodes},
    )


def _named(name: str, words: str) -> dict[str, Any]:
    return {"name": name, "labels": dict(labels(words))}
