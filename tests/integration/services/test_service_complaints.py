"""Services that are not served as they stand are told of where operators look: in Events, in
`ovsnet status` and in the log.
"""

from __future__ import annotations

import subprocess
import sys
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_servers import SERVERS, Served, api_server
from lone_controller import fetch, lone_controller
from places import wait_for

COMMAND = (sys.executable, "-c", "from ovsnet.cli.main import main; main()")
SPACE = "namespaces/default"
SERVICES = f"/api/v1/{SPACE}/services"
SLICES = f"/apis/discovery.k8s.io/v1/{SPACE}/endpointslices"
EVENTS = f"/api/v1/{SPACE}/events"


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[Served]:
    with api_server(request.param) as made:
        yield made


@pytest.fixture
def controller(server: Served, tmp_path: Path) -> Iterator[str]:
    """The URL of a controller of that cluster."""
    with lone_controller(server.kubeconfig, tmp_path / "log") as url:
        yield url


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}


def complaints(url: str) -> list[tuple[str, str, str]] | None:
    """What the controller's status says of services; None while it says nothing at all."""
    try:
        status = fetch(f"{url}/status")
    except (OSError, urllib.error.HTTPError):
        return None
    if not status["ready"]:
        return None
    return [(each["kind"], each["name"], each["field"]) for each in status["services"]]


def test_services_and_slices_that_are_not_served(
    server: Served, controller: str, tmp_path: Path
) -> None:
    made = fetch(server.url + SERVICES, "POST", service("first"))
    address = made["spec"]["clusterIP"]
    fetch(server.url + SERVICES, "POST", service("second", externalIPs=[address]))
    slice_ = {
        "metadata": {
            "name": "first-abc",
            "labels": {"kubernetes.io/service-name": "first"},
        },
        "addressType": "IPv4",
        "ports": [{"port": 8080}],
        "endpoints": [{"addresses": ["10.244.0.5"]}, {"addresses": [address]}],
    }
    fetch(server.url + SLICES, "POST", slice_)
    expected = [
        ("EndpointSlice", "default/first-abc", "endpoints"),
        ("Service", "default/second", "spec.externalIPs"),
    ]
    wait_for(lambda: complaints(controller) == expected, "the controller's status to complain")

    def events(kind: str, name: str) -> list[tuple[str, str, str]]:
        return [
            (e["type"], e["reason"], e["message"])
            for e in fetch(server.url + EVENTS)["items"]
            if (e["involvedObject"]["kind"], e["involvedObject"]["name"]) == (kind, name)
        ]

    wait_for(lambda: events("Service", "second"), "an Event about the service")
    wait_for(lambda: events("EndpointSlice", "first-abc"), "an Event about the slice")
    taken = "it is the cluster address of service default/first"
    assert events("Service", "second") == [
        ("Warning", "NotServed", f"spec.externalIPs: {address}: {taken}")
    ]
    assert events("EndpointSlice", "first-abc") == [
        (
            "Warning",
            "NotServed",
            f"endpoints: {address}: it is the cluster address of a service",
        )
    ]
    assert events("Service", "first") == []

    shown = subprocess.run(
        [*COMMAND, "status", "--controller", controller],
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 1
    assert "Services that are not served as they stand" in shown.stdout
    assert "not well: Service default/second: a part of it cannot be served" in shown.stdout
    assert 'event="service not served as it stands"' in (tmp_path / "log").read_text()

    # Whoever corrects it hears no more of it.
    fetch(f"{server.url}{SERVICES}/second", "DELETE")
    fetch(f"{server.url}{SLICES}/first-abc", "DELETE")
    wait_for(lambda: complaints(controller) == [], "the complaints to be gone")
