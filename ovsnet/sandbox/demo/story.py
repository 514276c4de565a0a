"""The demonstration, chapter by chapter."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ovsnet.sandbox import cluster, plan, process
from ovsnet.sandbox.demo import application, control, flowdump, pairs, probes, reachability
from ovsnet.sandbox.demo.application import MANIFESTS, ApplicationError, Pod
from ovsnet.sandbox.demo.checks import Check, Tally
from ovsnet.sandbox.demo.continuity import PingStream, RequestStream, Stream, Traffic
from ovsnet.sandbox.demo.forbidden import CallStream
from ovsnet.sandbox.demo.opening import ALLOWED, DENIED, NAMESPACE, Opening, ends_of
from ovsnet.sandbox.demo.reachability import NodeSite, OutsideSite
from ovsnet.sandbox.demo.screen import Screen
from ovsnet.sandbox.demo.serving import Serving
from ovsnet.sandbox.demo.teller import Teller, wait
from ovsnet.sandbox.layout import OUTSIDE, Layout
from ovsnet.sandbox.state import CONTROLLER
from ovsnet.sandbox.wishes import Wishes

OVERLAY_BYTES = 50
"""What VXLAN over IPv4 adds to a packet: IPv4 20, UDP 8, VXLAN 8, Ethernet 14 (RFC 7348)."""

_PODS_SECONDS = 60.0
_ALONE_SECONDS = 1.5
_AFTERWARDS_SECONDS = 0.5
_FLOWS_SHOWN = 6
_GATEWAY_PORT = "ovsnet-gw0"
_POD_INTERFACE = "eth0"


class Story:
    """Tells the story on one sandbox and counts its checks."""

    def __init__(self, layout: Layout, screen: Screen, tally: Tally) -> None:
        self._layout = layout
        self._screen = screen
        self._teller = Teller(layout, screen, tally)

    def up(self, nodes: int, programs: str) -> None:
        """Start the sandbox. Raises ClusterError if it does not start."""
        self._screen.section(f"A cluster of {nodes} nodes on this machine")
        began = time.monotonic()
        steps: list[str] = []
        with self._screen.progress("starting the sandbox", nodes) as show:

            def report(step: str) -> None:
                steps.append(step)
                show(sum(each.endswith("is ready") for each in steps))

            self._teller.state = cluster.up(self._layout, nodes, report, Wishes(programs))
        seconds = time.monotonic() - began
        self._screen.say(
            f"{nodes} nodes ready after {seconds:.1f} s: each with its own Open vSwitch "
            f"({self._teller.state.datapath} datapath), agent and kubelet"
        )

    def tell(self) -> None:
        """All chapters after the start.

        Raises:
            ApplicationError: the application does not run, so there is nothing more to tell.
            ApiError, ClusterError, ProcessError, SubprocessError, ValueError, OSError: a part of
                the sandbox did not do what the story needs; the message says which.
        """
        pods = self._deploy()
        sites = self._sites()
        self._reach(pods, sites)
        Serving(self._teller, pods).tell(sites)
        self._explain(pods)
        Opening(self._teller, pods).tell(sites, self._outside)
        self._lose_controller(pods)

    def _deploy(self) -> tuple[Pod, ...]:
        self._screen.section(f"An application: kubectl apply -f deploy/{MANIFESTS.name}")
        expected = application.expected_pods(
            application.documents(MANIFESTS), len(self._teller.state.nodes)
        )
        began = time.monotonic()
        self._teller.kubectl("apply", "-f", str(MANIFESTS))
        with self._screen.progress("waiting for its pods", expected) as show:
            pods: tuple[Pod, ...] = ()
            while len(pods) < expected:
                if time.monotonic() - began > _PODS_SECONDS:
                    break
                time.sleep(0.1)
                items = self._teller.api("/api/v1/pods")[0]["items"]
                pods = application.running_pods(self._layout, self._teller.state, items)
                show(len(pods))
        self._screen.pods(pods)
        seconds = time.monotonic() - began
        self._teller.check(
            Check(
                f"all {expected} pods run",
                len(pods) == expected,
                f"{len(pods)} after {seconds:.1f} s",
            )
        )
        if len(pods) < expected:
            raise ApplicationError(self._teller.kubectl("get", "events", "-A"))
        return pods

    def _sites(self) -> list[NodeSite]:
        ranges: Mapping[str, Sequence[str]] = {
            item["metadata"]["name"]: item["spec"]["podCIDRs"]
            for item in self._teller.api("/api/v1/nodes")[0]["items"]
        }
        return [
            NodeSite(
                name=node.name,
                netns=Path(node.netns),
                addresses=node.addresses,
                gateways=reachability.gateways(ranges[node.name]),
                mtu=probes.mtu(Path(node.netns), _GATEWAY_PORT),
            )
            for node in self._teller.state.nodes
        ]

    @property
    def _outside(self) -> OutsideSite:
        addresses = self._teller.state.outside.addresses
        return OutsideSite(OUTSIDE, addresses, cluster.OUTSIDE_PORT)

    def _reach(self, pods: tuple[Pod, ...], sites: list[NodeSite]) -> None:
        self._screen.section("Who reaches whom")
        ordinary = [pod for pod in pods if not pod.host_network]
        with self._screen.progress("every pod asks every other one", len(ordinary)) as show:
            meshes = reachability.mesh(pods, show)
        pod_mtu = probes.mtu(ordinary[0].netns, _POD_INTERFACE)
        ways = list(reachability.ways(pods, sites, self._outside, pod_mtu))
        with self._screen.progress("one way of every kind", len(ways)) as show:
            results = reachability.measure(ways, show)
        self._screen.reachability(results)
        expected = plan.MTU - OVERLAY_BYTES
        self._teller.check(
            *(mesh.check for mesh in meshes),
            Check(
                f"pods have the largest MTU that the overlay carries, {plan.MTU} less "
                f"{OVERLAY_BYTES}",
                pod_mtu == expected,
                str(pod_mtu),
            ),
        )
        # The table shows these; only what fails is worth a line of its own.
        self._teller.check_quietly(*(check for result in results for check in result.checks))

    def _explain(self, pods: tuple[Pod, ...]) -> None:
        node = next(pod for pod in pods if not pod.host_network).node
        self._screen.section(
            f"A few flows of {node}: ovs-ofctl --names dump-flows br-int | ovsnet explain"
        )
        chosen = flowdump.sample(flowdump.parse(self._teller.dump(node, "--names")), _FLOWS_SHOWN)
        lines = "".join(f" {flow.line}\n" for flow in chosen)
        done = self._teller.ovsnet("explain", given=lines)
        self._screen.quote(done.stdout or done.stderr)
        self._teller.check(
            Check(
                "flows that carried the traffic are explained",
                done.returncode == 0 and bool(chosen) and bool(done.stdout.strip()),
                f"{len(chosen)} of {node}",
            )
        )

    def _streams(self, pods: tuple[Pod, ...]) -> list[Stream]:
        """Pings between pods that no policy isolates, connections that a rule allows, and calls
        that none does.
        """
        free = [p for p in pods if not p.host_network and p.namespace != NAMESPACE]
        pinging, near, far = reachability.cast_of(free)
        client, server = ends_of(pods, ALLOWED)
        stranger, closed = ends_of(pods, DENIED)
        streams: list[Stream] = []
        for family in pairs.FAMILIES:
            beside, there, door, shut = (
                reachability.of_family(pod.addresses, family) for pod in (near, far, server, closed)
            )
            title = f"IPv{family}"
            allowed = client.netns, (door, ALLOWED.port), server.name
            streams += [
                PingStream(f"ping every 20 ms on one node, {title}", pinging.netns, beside),
                PingStream(f"ping every 20 ms between nodes, {title}", pinging.netns, there),
                RequestStream(f"one TCP connection by a rule, {title}", *allowed, keep=True),
                RequestStream(f"new TCP connections by a rule, {title}", *allowed, keep=False),
                CallStream(
                    f"calls that policies deny, {title}", stranger.netns, (shut, DENIED.port)
                ),
            ]
        return streams

    def _connected(self) -> list[str]:
        """The nodes whose switch has a connection to the controller at this moment.

        The kernel is asked, for OVSDB's column is_connected is some seconds behind.
        """
        return [
            node.name
            for node in self._teller.state.nodes
            if probes.connections(Path(node.netns), cluster.OPENFLOW_PORT)
        ]

    def _lose_controller(self, pods: tuple[Pod, ...]) -> None:
        self._screen.section("The controller is killed, and comes back")
        nodes = [node.name for node in self._teller.state.nodes]
        with Traffic(self._streams(pods)) as traffic:
            time.sleep(_AFTERWARDS_SECONDS)
            before = {node: flowdump.parse(self._teller.dump(node)) for node in nodes}
            dumped = time.monotonic()
            process.end(process.known(self._layout, CONTROLLER))
            killed = time.monotonic()
            wait(lambda: not self._connected())
            time.sleep(_ALONE_SECONDS)
            alone = self._connected()
            self._teller.state = cluster.start_process(self._layout, CONTROLLER)
            returned = time.monotonic()
            in_step = wait(self._in_step)
            time.sleep(_AFTERWARDS_SECONDS)
            elapsed = time.monotonic() - dumped
            after = {node: flowdump.parse(self._teller.dump(node)) for node in nodes}
            outcomes = traffic.stop()
        written = self._flow_writes()
        status = self._teller.status()
        self._teller.check(
            Check(
                "while it was gone, no switch had a controller",
                not alone,
                f"for {returned - killed:.1f} s",
            ),
            *(outcome.check for outcome in outcomes),
            Check(
                "back again, it has a session with every switch and found its flows there",
                in_step,
                control.sessions(status),
            ),
            Check("its metrics count no flow written", written == 0, _written_text(written)),
        )
        for node in nodes:
            # A tenth is for the time between the dumps' own moments of reading.
            found = flowdump.compare(before[node], after[node], elapsed * 0.9)
            self._teller.check(
                Check(f"no flow of {node} was rewritten", found.untouched, found.text)
            )

    def _in_step(self) -> bool:
        """Whether all switches have what the controller wants them to have."""
        status = self._teller.status()
        return status is not None and control.in_step(status, len(self._teller.state.nodes))

    def _flow_writes(self) -> float | None:
        try:
            metrics = control.fetch(self._teller.state, "/metrics")
        except probes.UNANSWERED:
            return None
        return control.total(metrics, control.FLOW_WRITES)


def _written_text(written: float | None) -> str:
    return "no such metric" if written is None else f"{written:.0f} written since it came back"
