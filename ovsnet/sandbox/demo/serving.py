"""The chapter about services: who reaches the application by which of its addresses."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from ovsnet.model import IPAddress
from ovsnet.sandbox import plan
from ovsnet.sandbox.demo import pairs, probes
from ovsnet.sandbox.demo.application import Pod
from ovsnet.sandbox.demo.calls import Answered, Call
from ovsnet.sandbox.demo.checks import Check
from ovsnet.sandbox.demo.reachability import NodeSite, of_family
from ovsnet.sandbox.demo.teller import Teller, wait

NAMESPACE, SERVICE, UNSERVED = "shop", "storefront", "wishlist"
"""The service that the story is about, and one without endpoints."""

_BALANCER: Mapping[int, IPAddress] = {
    network.version: network[7] for network in map(ip_network, plan.EXTERNAL_CIDRS)
}
_MOST_CALLS = 80
_LONGEST_REFUSAL = 1.0


class Serving:
    """Calls the storefront in every way there is."""

    def __init__(self, teller: Teller, pods: Sequence[Pod]) -> None:
        self._teller = teller
        self._pods = pods

    def tell(self, sites: Sequence[NodeSite]) -> None:
        """The chapter."""
        screen = self._teller.screen
        screen.section("Services, without kube-proxy: kubectl get services --namespace shop")
        self._balance()
        screen.quote(self._teller.kubectl("get", "services", "-n", NAMESPACE))
        calls = list(self._calls(sites))
        answered: list[Answered] = []
        with screen.progress("every way of calling the storefront", len(calls)) as show:
            for number, call in enumerate(calls, 1):
                answered.append(self._ask(call))
                show(number)
        screen.services(answered)
        self._teller.check_quietly(*(each.check for each in answered))
        self._teller.check(
            Check(
                f"all {len(answered)} ways led to all of its pods",
                all(each.check.passed for each in answered),
                f"{sum(each.calls for each in answered)} calls",
            ),
            *self._refusals(),
            self._own_api(),
        )

    def _balance(self) -> None:
        """Do what a cloud's load balancer does: give the service its addresses."""
        ingress = [{"ip": str(address)} for address in _BALANCER.values()]
        self._teller.kubectl(
            *("patch", "service", SERVICE, "-n", NAMESPACE, "--subresource=status"),
            *("--type=merge", "-p", json.dumps({"status": {"loadBalancer": {"ingress": ingress}}})),
        )
        wait(lambda: bool(self._service(SERVICE)["status"]["loadBalancer"].get("ingress")))

    def _service(self, name: str) -> dict[str, Any]:
        path = f"/api/v1/namespaces/{NAMESPACE}/services/{name}"
        found: dict[str, Any] = self._teller.api(path)[0]
        return found

    def _calls(self, sites: Sequence[NodeSite]) -> Iterator[Call]:
        spec = self._service(SERVICE)["spec"]
        port = spec["ports"][0]
        beyond = Path(self._teller.state.outside.netns)
        ordinary = [pod for pod in self._pods if not pod.host_network]
        stranger = next(pod for pod in ordinary if pod.namespace != NAMESPACE)
        itself = next(pod for pod in ordinary if pod.application == SERVICE)
        for family in pairs.FAMILIES:
            cluster = of_family(spec["clusterIPs"], family)
            balancer = str(_BALANCER[family])
            first, other = (of_family(site.addresses, family) for site in sites[:2])
            door, node_port = port["port"], port["nodePort"]
            for caller, source, by, target, number in (
                ("a pod", stranger.netns, "its cluster address", cluster, door),
                ("one of its own pods", itself.netns, "its cluster address", cluster, door),
                ("a node", sites[0].netns, "its cluster address", cluster, door),
                ("a node", sites[0].netns, "its own node port", first, node_port),
                ("a node", sites[0].netns, "another node's port", other, node_port),
                ("a pod", stranger.netns, "another node's port", other, node_port),
                ("the outside", beyond, "a node's port", first, node_port),
                ("the outside", beyond, "its balancer's address", balancer, door),
                ("a pod", stranger.netns, "its balancer's address", balancer, door),
            ):
                yield Call(caller, by, family, source, target, number)

    def _ask(self, call: Call) -> Answered:
        """Call until every pod has answered, or often enough."""
        expected = frozenset(p.name for p in self._pods if p.application == SERVICE)
        pods: set[str] = set()
        seen: set[str] = set()
        for number in itertools.count(1):
            try:
                answer = probes.who_answers(call.source, call.target, call.port)
            except probes.UNANSWERED as error:
                return Answered(
                    call, number, frozenset(pods), frozenset(seen), expected, str(error)
                )
            pods.add(answer.pod)
            seen.add(answer.client)
            if pods >= expected or number == _MOST_CALLS:
                return Answered(call, number, frozenset(pods), frozenset(seen), expected)
        raise AssertionError("counting never ends")

    def _refusals(self) -> Iterator[Check]:
        """A service without endpoints says so at once."""
        addresses = self._service(UNSERVED)["spec"]["clusterIPs"]
        pod = next(pod for pod in self._pods if not pod.host_network)
        for address in addresses:
            began = time.monotonic()
            said = _said(pod.netns, address)
            seconds = time.monotonic() - began
            yield Check(
                f"{UNSERVED} has no endpoint, so {address} refuses at once",
                said == "refused" and seconds < _LONGEST_REFUSAL,
                f"{said} after {seconds * 1000:.0f} ms",
            )

    def _own_api(self) -> Check:
        """Pods find the API server by the service that every cluster has."""
        spec = self._teller.api("/api/v1/namespaces/default/services/kubernetes")[0]["spec"]
        address, port = spec["clusterIPs"][0], spec["ports"][0]["port"]
        pod = next(pod for pod in self._pods if not pod.host_network)
        try:
            tls = self._teller.tls
            version = json.loads(probes.get(pod.netns, address, port, "/version", tls))
        except probes.UNANSWERED as error:
            return Check(f"a pod reaches the API server at {address}", False, str(error))
        claim = f"a pod reaches the API server at {address}, the service kubernetes"
        return Check(claim, "gitVersion" in version, str(version.get("gitVersion", version)))


def _said(source: Path, address: str) -> str:
    try:
        probes.who_answers(source, address, 80)
    except ConnectionRefusedError:
        return "refused"
    except probes.UNANSWERED as error:
        return str(error) or type(error).__name__
    return "answered"
