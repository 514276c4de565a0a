"""Policies that are not enforced as they stand are told of where operators look: in Events, in
`ovsnet status` and in the log.
"""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from in_effect import expect_settled
from lone_controller import fetch, lone_controller
from places import wait_for
from sandbox_lab import NAMESPACE, Lab
from sandbox_runs import sandbox

from ovsnet.sandbox.apiserver import schema
from ovsnet.sandbox.apiserver.server import ApiServer, Options
from ovsnet.sandbox.layout import INSTANCE_VARIABLE

COMMAND = (sys.executable, "-c", "from ovsnet.cli.main import main; main()")
POLICIES = "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies"
EVENTS = "/api/v1/namespaces/{}/events"


def policy(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"podSelector": {}, **spec}}


def events_about(found: dict[str, Any], name: str) -> list[tuple[str, str, str, str]]:
    """Type, reason, source and message of the Events about a policy, in order."""
    return sorted(
        (e["type"], e["reason"], e["source"]["component"], e["message"])
        for e in found["items"]
        if (e["involvedObject"]["kind"], e["involvedObject"]["name"]) == ("NetworkPolicy", name)
    )


# An API server that knows more than the controller, and a controller without any switch.


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    """An API server of a version in which policies and their rules have one field more."""
    for name in ("NetworkPolicySpec", "NetworkPolicyIngressRule"):
        fields = schema.definitions()[f"io.k8s.api.networking.v1.{name}"]["properties"]
        monkeypatch.setitem(fields, "tier", {"type": "string"})
    with ApiServer(Options(controllers=())) as made:
        yield made


@pytest.fixture
def controller(server: ApiServer, tmp_path: Path) -> Iterator[str]:
    """The URL of a controller of that cluster."""
    with lone_controller(server.kubeconfig, tmp_path / "log") as url:
        yield url


def complaints(url: str) -> list[dict[str, str]] | None:
    """What the controller's status says of policies; None while it says nothing at all."""
    try:
        status = fetch(f"{url}/status")
    except (OSError, urllib.error.HTTPError):
        return None
    return status["policies"] if status["ready"] else None


def test_a_field_that_is_not_known_is_told_of(
    server: ApiServer, controller: str, tmp_path: Path
) -> None:
    policies = server.url + POLICIES.format("default")
    fetch(policies, "POST", policy("plain", ingress=[{}]))
    fetch(policies, "POST", policy("tiered", ingress=[{"tier": "top"}, {}]))
    wait_for(lambda: complaints(controller), "the controller's status to complain")
    (told,) = complaints(controller) or []
    assert (told["policy"], told["field"]) == ("default/tiered", "spec.ingress[0].tier")

    def events(name: str) -> list[tuple[str, str, str, str]]:
        return events_about(fetch(server.url + EVENTS.format("default")), name)

    words = (
        "unknown field: expected one of from, ports; the part that this belongs to allows nothing"
    )
    wait_for(lambda: events("tiered"), "an Event about the policy")
    assert events("tiered") == [
        ("Warning", "NotEnforced", "ovsnet", f"spec.ingress[0].tier: {words}")
    ]
    assert events("plain") == []

    shown = subprocess.run(
        [*COMMAND, "status", "--controller", controller],
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 1
    assert "Policies that are not enforced as they stand" in shown.stdout
    assert "not well: policy default/tiered: a part of it cannot be enforced" in shown.stdout
    assert 'event="policy not enforced as it stands"' in (tmp_path / "log").read_text()

    # Whoever corrects it hears no more of it, and is told of the next fault at once.
    fetch(f"{policies}/tiered", "PUT", policy("tiered", ingress=[{}]))
    wait_for(lambda: complaints(controller) == [], "the complaint to be gone")
    fetch(f"{policies}/tiered", "PUT", policy("tiered", tier="top"))
    wait_for(lambda: len(events("tiered")) == 2, "an Event about the other field")


# A sandbox, whose switches do not know the ports of SCTP.


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with sandbox("policysctp", "a", 1) as made:
        made.post_pod("db", "node1", labels={"app": "db"})
        made.running(["db"])
        yield made


def test_ports_of_sctp_on_a_userspace_datapath_are_told_of(lab: Lab) -> None:
    if not lab.state.userspace:
        pytest.skip("the kernel's datapath knows the ports of SCTP")
    path = POLICIES.format(NAMESPACE)
    port = {"protocol": "SCTP", "port": 2905}
    lab.api("POST", path, policy("signal", egress=[{}, {"ports": [{"port": 80}, port]}]))
    lab.api("POST", path, policy("protocol", ingress=[{"ports": [{"protocol": "SCTP"}]}]))
    nobody = {"podSelector": {"matchLabels": {"app": "nobody"}}}
    lab.api("POST", path, policy("elsewhere", ingress=[{"ports": [port]}], **nobody))
    expect_settled(lab)

    def events(name: str) -> list[tuple[str, str, str, str]]:
        return events_about(lab.api("GET", EVENTS.format(NAMESPACE)), name)

    wait_for(lambda: events("signal"), "an Event about the policy")
    words = (
        "ports of SCTP are not known to the userspace datapath of node1; what is allowed by them "
        "is dropped there"
    )
    assert events("signal") == [
        ("Warning", "NotEnforced", "ovsnet", f"spec.egress[1].ports: {words}")
    ]
    told = [(each["policy"], each["field"]) for each in lab.status()["policies"]]
    assert told == [(f"{NAMESPACE}/signal", "spec.egress[1].ports")]
    assert events("protocol") == events("elsewhere") == []
    shown = subprocess.run(
        [*COMMAND, "status"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {INSTANCE_VARIABLE: lab.instance},
    )
    assert f"not well: policy {NAMESPACE}/signal: a part of it cannot be enforced" in shown.stdout
