"""The demonstration's claims: each must fail when what it claims is not so."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from ovsnet.controller.status import NO_SESSION, NodeStatus, Revision, Status
from ovsnet.sandbox.demo import application, control, leftovers, reachability
from ovsnet.sandbox.demo.application import MANIFESTS, Pod
from ovsnet.sandbox.demo.checks import Check, Tally
from ovsnet.sandbox.demo.continuity import Count
from ovsnet.sandbox.demo.leftovers import Traces
from ovsnet.sandbox.demo.probes import Answer, Ping, Transfer
from ovsnet.sandbox.demo.reachability import Mesh, NodeSite, OutsideSite, Result


def pod(name: str, node: str, number: int, host: bool = False) -> Pod:
    addresses = (f"10.244.{number}.3", f"fd00:{number}::3")
    return Pod("shop", name, "app", node, host, addresses, (80,), Path(f"/run/netns/{name}"))


def site(name: str, number: int) -> NodeSite:
    return NodeSite(
        name,
        Path(f"/run/netns/{name}"),
        (f"172.18.0.{number}", f"fd00:172::{number}"),
        (f"10.244.{number}.1", f"fd00:{number}::1"),
        1450,
    )


PODS = (
    pod("a", "node1", 1),
    pod("b", "node1", 2),
    pod("c", "node2", 3),
    pod("h1", "node1", 11, host=True),
    pod("h2", "node2", 12, host=True),
)
SITES = (site("node1", 1), site("node2", 2))
OUTSIDE = OutsideSite("outside", ("203.0.113.10", "2001:db8::a"), 80)
WAYS = list(reachability.ways(PODS, SITES, OUTSIDE, 1450))


def test_every_kind_of_way_in_both_families() -> None:
    kinds = {way.kind for way in WAYS}
    assert kinds == {
        "pod to pod, same node", "pod to pod, other node", "node to own pod",
        "pod to own node", "pod to other node", "pod to outside",
    }  # fmt: skip
    assert {(way.kind, way.family) for way in WAYS} == {(k, f) for k in kinds for f in (4, 6)}
    assert all((":" in way.target) == (way.family == 6) == (":" in way.seen) for way in WAYS)


def test_who_must_be_seen_on_which_way() -> None:
    seen = {way.kind: way.seen for way in WAYS if way.family == 4}
    assert seen["pod to pod, same node"] == seen["pod to pod, other node"] == "10.244.1.3"
    assert seen["node to own pod"] == "10.244.1.1"
    assert seen["pod to own node"] == "10.244.1.3"
    assert seen["pod to other node"] == seen["pod to outside"] == "172.18.0.1"


def test_an_application_without_a_second_node() -> None:
    with pytest.raises(ValueError, match="has no pods on"):
        list(reachability.ways(PODS[:2], SITES, OUTSIDE, 1450))
    with pytest.raises(ValueError, match="no two pods on one node"):
        list(reachability.ways(PODS[1:], SITES, OUTSIDE, 1450))


def good_result() -> Result:
    way = WAYS[0]
    return Result(
        way,
        Ping(3, 3, 0.5),
        Ping(3, 3, 0.5),
        Ping(1, 0, None, "message too long"),
        Transfer(4 << 20, 0.1, True),
        Answer(way.answers, way.seen),
    )


def test_a_good_way_passes() -> None:
    assert all(check.passed for check in good_result().checks)


@pytest.mark.parametrize(
    "wrong",
    [
        {"ping": Ping(3, 2, 0.5)},
        {"ping": Ping(0, 0, None)},
        {"full": Ping(3, 0, None)},
        {"larger": Ping(1, 1, 0.5)},
        {"transfer": Transfer(4 << 20, 0.1, False)},
        {"answer": None, "fault": "timed out"},
        {"answer": Answer("somebody", WAYS[0].seen)},
        {"answer": Answer(WAYS[0].answers, "192.0.2.1")},
    ],
)
def test_each_fault_of_a_way_is_seen(wrong: dict[str, object]) -> None:
    result = msgspec.structs.replace(good_result(), **wrong)
    assert not all(check.passed for check in result.checks)


def test_a_mesh() -> None:
    assert Mesh(4, 12, ()).check.passed
    assert not Mesh(4, 12, ("a to b: timed out",)).check.passed
    assert not Mesh(4, 0, ()).check.passed


def test_a_stream() -> None:
    assert Count("ping", 100, 0).check.passed
    assert not Count("ping", 100, 1).check.passed
    assert not Count("ping", 0, 0).check.passed


def test_the_tally() -> None:
    tally = Tally()
    assert not tally.passed
    tally.add(Check("one", passed=True), Check("two", passed=True))
    assert tally.passed
    assert tally.verdict == "demo: 2/2 checks passed"
    tally.add(Check("three", passed=False))
    assert not tally.passed
    assert tally.verdict == "demo: 2/3 checks passed"
    assert [check.claim for check in tally.failed] == ["three"]


NOTHING = Traces((), (), (), frozenset({"lo", "eth0"}))


@pytest.mark.parametrize(
    ("left", "what"),
    [
        ({"processes": (5,)}, "process"),
        ({"namespaces": ("ovsnet-node1",)}, "namespace"),
        ({"files": ("/run/ovsnet/sandbox",)}, "file"),
        ({"links": frozenset({"lo", "eth0", "br-int"})}, "link"),
    ],
)
def test_whatever_is_left_is_seen(left: dict[str, object], what: str) -> None:
    after = msgspec.structs.replace(NOTHING, **left)
    inside = frozenset({"lo", "br-int"})
    failed = [c for c in leftovers.checks(NOTHING, after, inside) if not c.passed]
    assert len(failed) == 1
    assert what in failed[0].claim
    assert all(check.passed for check in leftovers.checks(NOTHING, NOTHING, inside))


def test_links_that_others_made_meanwhile_do_not_count() -> None:
    after = msgspec.structs.replace(NOTHING, links=frozenset({"lo", "eth0", "docker0"}))
    checks = leftovers.checks(NOTHING, after, frozenset({"lo", "br-int"}))
    assert all(check.passed for check in checks)


def test_the_manifests_are_about_twenty_pods_in_several_namespaces() -> None:
    documents = application.documents(MANIFESTS)
    assert 18 <= application.expected_pods(documents, 3) <= 24
    namespaces = {d["metadata"]["name"] for d in documents if d["kind"] == "Namespace"}
    used = {d["metadata"]["namespace"] for d in documents if d["kind"] != "Namespace"}
    assert used == namespaces
    assert len(namespaces) >= 3


def test_expected_pods() -> None:
    def workload(kind: str, **spec: int) -> dict[str, object]:
        return {"kind": kind, "spec": spec}

    objects = [
        workload("Deployment", replicas=3),
        workload("StatefulSet"),
        workload("DaemonSet"),
        workload("Pod"),
        workload("Service"),
    ]
    assert application.expected_pods(objects, 5) == 3 + 1 + 5 + 1


def test_metrics() -> None:
    text = (
        "# HELP x_total things\n# TYPE x_total counter\n"
        'x_total{node="a"} 3.0\nx_total{node="b"} 1e+01\nx_total_created 5\ny 7\n'
    )
    assert control.total(text, "x_total") == 13
    assert control.total(text, "y") == 7
    assert control.total(text, "z") is None
    assert control.total("# TYPE z_total counter\n", "z_total") == 0


def controller_status(**changes: object) -> Status:
    now = datetime(2025, 1, 31, tzinfo=UTC)
    nodes = tuple(NodeStatus(n, "serving", "1", 9, Revision(2, 2)) for n in ("node1", "node2"))
    status = Status("1", 0, now, ready=True, watches=(), nodes=nodes)
    return msgspec.structs.replace(status, **changes)


def test_a_controller_that_is_in_step() -> None:
    status = controller_status()
    assert control.in_step(status, 2)
    assert not control.in_step(status, 3)
    assert not control.in_step(controller_status(ready=False), 2)
    first = status.nodes[0]
    for fault in ({"session": NO_SESSION}, {"revision": Revision(2, 1)}):
        nodes = (msgspec.structs.replace(first, **fault), status.nodes[1])
        assert not control.in_step(controller_status(nodes=nodes), 2)
