from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from ovsnet.sandbox.kubelet import status

NOW = "2025-01-31T12:00:00Z"
POD: dict[str, Any] = {
    "metadata": {"namespace": "shop", "name": "web-0", "uid": "u"},
    "spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b"}]},
    "status": {"conditions": [{"type": "PodScheduled", "status": "True"}]},
}


def conditions(report: dict[str, Any]) -> dict[str, str]:
    return {c["type"]: c["status"] for c in report["conditions"]}


def test_a_running_pod() -> None:
    report = status.running(
        POD, ["10.0.0.2", "fd00::2"], ["192.0.2.1"], container_id="c", started=NOW
    )
    assert report["phase"] == "Running"
    assert report["podIP"] == "10.0.0.2"
    assert report["podIPs"] == [{"ip": "10.0.0.2"}, {"ip": "fd00::2"}]
    assert report["hostIP"] == "192.0.2.1"
    assert [c["name"] for c in report["containerStatuses"]] == ["a", "b"]
    assert all(c["ready"] for c in report["containerStatuses"])
    assert conditions(report)["Ready"] == "True"


def test_the_schedulers_condition_survives() -> None:
    for report in (
        status.waiting(POD, ["192.0.2.1"], NOW),
        status.running(POD, [], ["192.0.2.1"], container_id="c", started=NOW),
    ):
        assert conditions(report)["PodScheduled"] == "True"
        assert len(report["conditions"]) == len(conditions(report))


def test_a_pod_that_waits_is_not_ready() -> None:
    report = status.waiting(POD, ["192.0.2.1"], NOW)
    assert report["phase"] == "Pending"
    assert conditions(report)["Ready"] == "False"
    assert "podIP" not in report


def test_a_nodes_readiness_says_why() -> None:
    (ready,) = status.node_ready(None, NOW)["conditions"]
    assert (ready["type"], ready["status"]) == ("Ready", "True")
    (not_ready,) = status.node_ready("no configuration", NOW)["conditions"]
    assert not_ready["status"] == "False"
    assert "no configuration" in not_ready["message"]


def test_addresses_of_a_result() -> None:
    result = {"ips": [{"address": "10.0.0.2/32"}, {"address": "fd00::2/128"}]}
    assert status.addresses_of(result) == ("10.0.0.2", "fd00::2")
    assert status.addresses_of({}) == ()


def test_capabilities() -> None:
    ports = [{"containerPort": 80, "hostPort": 8080}, {"containerPort": 90}]
    pod = {
        "metadata": {"annotations": {"kubernetes.io/ingress-bandwidth": "10M"}},
        "spec": {"containers": [{"name": "a", "ports": ports}]},
    }
    found = status.capabilities_of(pod)
    assert found["portMappings"] == [
        {"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""}
    ]
    assert found["bandwidth"]["ingressRate"] == 10_000_000
    assert "egressRate" not in found["bandwidth"]
    plain = status.capabilities_of(POD)
    assert "portMappings" not in plain
    assert "bandwidth" not in plain


@pytest.mark.parametrize(
    ("text", "value"), [("5", 5), ("10M", 10_000_000), ("1Gi", 2**30), ("64k", 64_000)]
)
def test_quantities(text: str, value: int) -> None:
    assert status.quantity(text) == value


@pytest.mark.parametrize("text", ["", "M", "1.5.5", "10X", "-1", "1Mi5"])
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="a quantity such as"):
        status.quantity(text)


def test_timestamps_are_utc() -> None:
    assert status.timestamp(datetime(2025, 1, 31, 12, 0, 0, 999, tzinfo=UTC)) == NOW


def test_a_long_message_fits_an_event() -> None:
    event = status.event(
        POD, "node1", name="e", kind="Warning", reason="R", message="x" * 5000, now=NOW
    )
    assert len(event["message"]) == 1024
    assert event["involvedObject"]["uid"] == "u"
