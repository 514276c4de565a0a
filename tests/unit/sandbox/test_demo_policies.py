"""The demonstration's chapter about policies: what it claims must fail when it is not so."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml

from ovsnet.api import NAMESPACE, NETWORK_POLICY, NODE, POD
from ovsnet.api.decode import read_page
from ovsnet.model import NetworkPolicy
from ovsnet.sandbox.demo import application, opening, pairs
from ovsnet.sandbox.demo.application import MANIFESTS, POLICIES, Pod
from ovsnet.sandbox.demo.forbidden import Silence
from ovsnet.sandbox.demo.opening import STEPS, Line
from ovsnet.sandbox.demo.pairs import Attempt, Cell, Survey
from ovsnet.sandbox.demo.reachability import NodeSite, OutsideSite


def pod(app: str, number: int, node: str, *ports: int, host: bool = False) -> Pod:
    return Pod(
        "shop",
        f"{app}-{number}",
        app,
        node,
        host,
        (f"10.244.0.{number}", f"fd00::{number}"),
        ports or (80,),
        Path(f"/run/netns/{app}-{number}"),
    )


PODS = (
    pod("web", 2, "node1"),
    pod("web", 3, "node2"),
    pod("api", 4, "node1", 8080, 9090),
    pod("metrics", 5, "node1", 9100, host=True),
)
SITE = NodeSite("node1", Path("/run/netns/node1"), ("172.18.0.1",), ("10.244.0.1", "fd00::1"), 0)
OUTSIDE = OutsideSite("outside", ("203.0.113.10", "2001:db8::a"), 80)
TRIED = pairs.attempts(PODS, [SITE], OUTSIDE)


def names(tried: Iterable[Attempt]) -> set[tuple[str, str, int]]:
    return {(a.source.name, a.destination.name, a.port) for a in tried}


def test_everybody_tries_everybody_else_in_both_families() -> None:
    doors = [("web-2", 80), ("web-3", 80), ("api-4", 8080), ("api-4", 9090), ("metrics-5", 9100)]
    by_pods = {
        (f"shop/{source}", f"shop/{door}", port)
        for source in ("web-2", "web-3", "api-4")
        for door, port in doors
        if door != source
    }
    outside = {(f"shop/{source}", "outside", 80) for source in ("web-2", "web-3", "api-4")}
    own = {
        ("node1", "shop/web-2", 80),
        ("node1", "shop/api-4", 8080),
        ("node1", "shop/api-4", 9090),
    }
    assert names(TRIED) == by_pods | outside | own
    assert len(TRIED) == 2 * len(names(TRIED)) == len(set(TRIED))
    assert all((":" in a.target) == (a.traffic.source.version == 6) for a in TRIED)


def test_a_survey_passes_only_if_everything_is_as_it_should_be() -> None:
    some = frozenset(TRIED[::3])
    good = Survey(TRIED, some, some)
    assert [check.passed for check in good.checks] == [True, True]
    for attempt in TRIED:
        wrong = Survey(TRIED, some, some ^ {attempt})
        failed = [check for check in wrong.checks if not check.passed]
        assert [check.claim[-1] for check in failed] == [str(attempt.family)]
        word = "allowed, but does not get" if attempt in some else "denied, but gets"
        assert f"{attempt.text}: {word} through" in failed[0].seen
    assert not any(check.passed for check in Survey((), frozenset(), frozenset()).checks)


def test_the_cells_of_a_table() -> None:
    to_api = frozenset(a for a in TRIED if a.destination.title == "api")
    one_door = frozenset(a for a in to_api if a.port == 8080 and a.source.name == "shop/web-2")
    survey = Survey(TRIED, to_api, one_door)
    assert survey.sources == ("web", "api", pairs.OWN_NODE)
    assert survey.doors == (
        ("web", 80), ("api", 8080), ("api", 9090), ("metrics", 9100), ("outside", 80),
    )  # fmt: skip
    cells = survey.cells
    assert cells["web", ("api", 8080)] == Cell(4, 2, right=False)
    assert cells["web", ("api", 9090)] == Cell(4, 0, right=False)
    assert cells["web", ("web", 80)] == Cell(4, 0, right=True)
    assert ("api", ("api", 8080)) not in cells
    assert [Cell(4, n, right=True).text for n in (0, 2, 4)] == ["·", "2/4", "✓"]


def listed(kind: str, *items: dict[str, object]) -> bytes:
    page = {"kind": f"{kind}List", "metadata": {"resourceVersion": "9"}, "items": list(items)}
    return json.dumps(page).encode()


def test_what_is_allowed_comes_from_the_objects_of_the_api() -> None:
    def metadata(name: str, **more: object) -> dict[str, object]:
        return {"name": name, "uid": name, "resourceVersion": "1", "namespace": "shop", **more}

    def api_pod(pod: Pod) -> dict[str, object]:
        return {
            "metadata": metadata(pod.name, labels={"app": pod.application}),
            "spec": {"nodeName": pod.node, "containers": []},
            "status": {"phase": "Running", "podIPs": [{"ip": each} for each in pod.addresses]},
        }

    policy = {
        "metadata": metadata("api"),
        "spec": {
            "podSelector": {"matchLabels": {"app": "api"}},
            "ingress": [{"ports": [{"port": 8080}]}],
        },
    }
    lists = {
        NAMESPACE: listed("Namespace", {"metadata": {"name": "shop", "resourceVersion": "1"}}),
        POD: listed("Pod", *map(api_pod, PODS[:3])),
        NODE: listed("Node"),
        NETWORK_POLICY: listed("NetworkPolicy", policy),
    }
    allowed = pairs.allowed(pairs.world(lists), TRIED)
    denied = {attempt for attempt in TRIED if attempt not in allowed}
    assert {(a.destination.title, a.port) for a in denied} == {("api", 9090)}
    assert {a.source.title for a in denied} == {"web", pairs.OWN_NODE}


def test_calls_that_nobody_may_answer() -> None:
    assert Silence("calls", 10, 0).check.passed
    assert not Silence("calls", 10, 1).check.passed
    assert not Silence("calls", 0, 0).check.passed


def test_the_ends_of_a_connection_are_on_different_nodes_if_that_can_be() -> None:
    assert opening.ends_of(PODS, Line("web", "api", 8080)) == (PODS[1], PODS[2])
    assert opening.ends_of(PODS[::2], Line("web", "api", 8080)) == (PODS[0], PODS[2])
    with pytest.raises(ValueError, match="none of cart runs"):
        opening.ends_of(PODS, Line("web", "cart", 80))


WHY = """shop/web to shop/api, tcp

IPv4, 10.244.0.2 to 10.244.0.4 port 8080: allowed
    egress   allowed: no policy isolates the pod

IPv6, fd00::2 to fd00::4 port 8080: {second}
    ingress  denied: the pod is isolated and no rule allows it
"""


def test_what_why_says() -> None:
    assert opening.says(WHY.format(second="allowed"), "allowed")
    assert not opening.says(WHY.format(second="denied"), "allowed")
    assert not opening.says(WHY.format(second="denied"), "denied")
    assert not opening.says("Error: allowed", "allowed")


PLAN = """Would become denied
From      To        Traffic   Families   Pairs
shop/web  shop/api  TCP 8080  IPv4 IPv6      2

Live connections that would be cut
{cut}

Flow changes
Node   Added  Changed  Deleted
"""


def test_how_many_connections_a_plan_foresees_to_be_cut() -> None:
    table = "Protocol  From      To        Port\n"
    lines = "tcp       shop/web  shop/api  8080\nicmp      shop/web  shop/api  -"
    assert opening.cuts(PLAN.format(cut=table + lines)) == 2
    assert opening.cuts(PLAN.format(cut="none")) == 0
    assert opening.cuts("Error: tcp") == 0


def policies() -> dict[str, list[NetworkPolicy]]:
    found = {}
    for path in sorted(POLICIES.glob("*")):
        documents = list(yaml.safe_load_all(path.read_text()))
        for document in documents:
            assert document["kind"] == "NetworkPolicy"
            document["metadata"]["resourceVersion"] = "1"
        page = listed("NetworkPolicy", *documents)
        found[path.name] = [read.value for read in read_page(NETWORK_POLICY, page).objects]
    return found


def test_every_file_of_policies_is_a_step_and_says_what_can_be_enforced() -> None:
    found = policies()
    assert list(found) == [step.file for step in STEPS]
    for each in (policy for those in found.values() for policy in those):
        assert each.namespace == opening.NAMESPACE
        assert not each.faults


def test_policies_are_not_applied_with_the_application() -> None:
    assert POLICIES.parent == MANIFESTS
    assert {d["kind"] for d in application.documents(MANIFESTS)}.isdisjoint({"NetworkPolicy"})


def test_the_connections_of_the_steps_are_between_pods_that_there_are() -> None:
    ports = {
        d["metadata"]["name"]: {
            port["containerPort"]
            for container in d["spec"].get("template", d)["spec"]["containers"]
            for port in container["ports"]
        }
        for d in application.documents(MANIFESTS)
        if d["kind"] not in ("Namespace", "Service")
    }
    lines = [line for step in STEPS for line in (step.ends, step.stays) if line is not None]
    for line in (*lines, opening.ALLOWED, opening.DENIED):
        assert line.source in ports
        assert line.port in ports[line.destination]
