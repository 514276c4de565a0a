"""The rights that an installed network has, against what it does with them on a real API server.

It may do all that it tries to: every test with a sandbox sees to that (`sandbox_runs`). Here it
does everything, and may do nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import deployed
import pytest
import real_apiserver
from lab_api import ACCOUNTS
from places import wait_for
from replicated_lab import LEASE, ReplicatedLab
from sandbox_lab import NAMESPACE, Lab
from sandbox_runs import sandbox
from secure_lab import CONFIG_MAP, SECRET, SecureLab

from ovsnet.sandbox import agent
from ovsnet.sandbox.state import CONTROLLER

pytestmark = pytest.mark.timeout(300)
SERVICES = f"/api/v1/namespaces/{NAMESPACE}/services"
EVENTS = f"/api/v1/namespaces/{NAMESPACE}/events"


class Right(NamedTuple):
    """Who may do what."""

    account: str
    verb: str
    group: str
    resource: str


NOT_HERE = {
    Right("ovsnet-controller", "update", "", "secrets"): "authorities are exchanged after years",
    Right("ovsnet-controller", "get", "", "pods"): "older API servers do not name a token's node",
}
"""Rights that are needed elsewhere, and why not here."""


@pytest.fixture(scope="module")
def secure() -> Iterator[SecureLab]:
    """Set up as an installed network is: TLS, a Lease, and controllers behind their service."""
    real_apiserver.require()
    with sandbox("rights", "a", 1) as lab:
        made = SecureLab(lab)
        ReplicatedLab(lab, 1).publish_all()
        made.secure("--lease", LEASE, "--pod", CONTROLLER, "--pod-address", str(made.control))
        file = lab.layout.node("node1").agent / "agent.toml"
        explicit = ("controllers", "agents_urls")
        kept = [line for line in file.read_text().splitlines() if line.split()[0] not in explicit]
        file.write_text("\n".join(kept) + "\n" + agent.toml({"controller_service": LEASE}))
        lab.kill("agent-node1")
        lab.start("agent-node1")
        made.wait_until_secure()
        yield made


def test_everything_that_is_allowed_is_needed(secure: SecureLab) -> None:
    lab = secure.lab
    lab.pods([("a", "node1")])
    expect_events(lab)
    # The authorities are written where they are missing, and mended where they are wrong.
    lab.api("PATCH", CONFIG_MAP, {"data": {"ca.crt": "nonsense"}}, "merge")
    wait_for(lambda: secure.bundle() != "nonsense", "the ConfigMap to be mended", 60)
    for path in (CONFIG_MAP, SECRET):
        lab.api("DELETE", path)
    wait_for(secure.bundle, "the ConfigMap to be back", 60)
    expected = granted() - NOT_HERE.keys()
    wait_for(lambda: not expected - used(lab), lambda: f"use of {expected - used(lab)}", 60)
    assert not used(lab) & NOT_HERE.keys()


def expect_events(lab: Lab) -> None:
    """An Event is written, and counted when another controller says the same."""
    address = lab.api("GET", "/api/v1/namespaces/default/services/kubernetes")["spec"]["clusterIP"]
    spec = {"ports": [{"port": 443}], "externalIPs": [address]}

    def counted() -> int:
        items = lab.api("GET", EVENTS)["items"]
        return max((e["count"] for e in items if e["reason"] == "NotServed"), default=0)

    lab.api("POST", SERVICES, {"metadata": {"name": "taken"}, "spec": spec})
    wait_for(counted, "an Event", 60)
    lab.kill(CONTROLLER)
    lab.start(CONTROLLER)
    wait_for(lambda: counted() > 1, "the Event to be counted", 60)


def granted() -> set[Right]:
    """What the roles of `deploy/` allow."""
    rules: dict[tuple[str, str], list[dict[str, Any]]] = {
        (each["kind"], each["metadata"]["name"]): each["rules"]
        for each in deployed.objects()
        if each["kind"] in ("Role", "ClusterRole")
    }
    return {
        Right(subject["name"], verb, group, resource)
        for binding in deployed.objects()
        if binding["kind"] in ("RoleBinding", "ClusterRoleBinding")
        for subject in binding["subjects"]
        for rule in rules[binding["roleRef"]["kind"], binding["roleRef"]["name"]]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def used(lab: Lab) -> set[Right]:
    """What controller and agents did."""
    events = map(json.loads, lab.layout.audit_log.read_text().splitlines())
    return {
        Right(
            event["user"]["username"].rpartition(":")[2],
            event["verb"],
            event["objectRef"].get("apiGroup", ""),
            event["objectRef"]["resource"],
        )
        for event in events
        if event["user"]["username"] in ACCOUNTS and "objectRef" in event
    }
