"""The demonstration, chapter by chapter."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ovsnet.controller.status import Status, read_status
from ovsnet.sandbox import cluster, entering, plan, process
from ovsnet.sandbox.client import Client, Object, server_of
from ovsnet.sandbox.demo import application, control, flowdump, probes, reachability
from ovsnet.sandbox.demo.application import MANIFESTS, ApplicationError, Pod
from ovsnet.sandbox.demo.checks import Check, Tally
from ovsnet.sandbox.demo.continuity import PingStream, RequestStream, Stream, Traffic
from ovsnet.sandbox.demo.reachability import NodeSite, OutsideSite
from ovsnet.sandbox.demo.screen import Screen
from ovsnet.sandbox.layout import OUTSIDE, Layout
from ovsnet.sandbox.state import CONTROLLER, State

OVERLAY_BYTES = 50
"""What VXLAN over IPv4 adds to a packet: IPv4 20, UDP 8, VXLAN 8, Ethernet 14 (RFC 7348)."""

_PODS_SECONDS = 60.0
_CONTROLLER_SECONDS = 30.0
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
        self._tally = tally
        self._state: State

    def up(self, nodes: int) -> None:
        """Start the sandbox. Raises ClusterError if it does not start."""
        self._screen.section(f"A cluster of {nodes} nodes on this machine")
        began = time.monotonic()
        steps: list[str] = []
        with self._screen.progress("starting the sandbox", nodes) as show:

            def report(step: str) -> None:
                steps.append(step)
                show(sum(each.endswith("is ready") for each in steps))

            self._state = cluster.up(self._layout, nodes, report)
        seconds = time.monotonic() - began
        self._screen.say(
            f"{nodes} nodes ready after {seconds:.1f} s: each with its own Open vSwitch "
            f"({self._state.datapath} datapath), agent and kubelet"
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
        self._explain(pods)
        self._lose_controller(pods)

    def _check(self, *checks: Check) -> None:
        self._tally.add(*checks)
        self._screen.checks(checks)

    def _api(self, path: str) -> list[Object]:
        async def ask() -> list[Object]:
            async with Client(server_of(self._layout.kubeconfig)) as client:
                items: list[Object] = (await client.get(path))["items"]
                return items

        return asyncio.run(ask())

    def _deploy(self) -> tuple[Pod, ...]:
        self._screen.section(f"An application: kubectl apply -f deploy/{MANIFESTS.name}")
        expected = application.expected_pods(
            application.documents(MANIFESTS), len(self._state.nodes)
        )
        began = time.monotonic()
        application.kubectl(self._layout, self._state, "apply", "-f", str(MANIFESTS))
        with self._screen.progress("waiting for its pods", expected) as show:
            pods: tuple[Pod, ...] = ()
            while len(pods) < expected:
                if time.monotonic() - began > _PODS_SECONDS:
                    break
                time.sleep(0.1)
                items = self._api("/api/v1/pods")
                pods = application.running_pods(self._layout, self._state, items)
                show(len(pods))
        self._screen.pods(pods)
        seconds = time.monotonic() - began
        self._check(
            Check(
                f"all {expected} pods run",
                len(pods) == expected,
                f"{len(pods)} after {seconds:.1f} s",
            )
        )
        if len(pods) < expected:
            raise ApplicationError(
                application.kubectl(self._layout, self._state, "get", "events", "-A")
            )
        return pods

    def _sites(self) -> list[NodeSite]:
        ranges: Mapping[str, Sequence[str]] = {
            item["metadata"]["name"]: item["spec"]["podCIDRs"]
            for item in self._api("/api/v1/nodes")
        }
        return [
            NodeSite(
                name=node.name,
                netns=Path(node.netns),
                addresses=node.addresses,
                gateways=reachability.gateways(ranges[node.name]),
                mtu=probes.mtu(Path(node.netns), _GATEWAY_PORT),
            )
            for node in self._state.nodes
        ]

    def _reach(self, pods: tuple[Pod, ...], sites: list[NodeSite]) -> None:
        self._screen.section("Who reaches whom")
        ordinary = [pod for pod in pods if not pod.host_network]
        with self._screen.progress("every pod asks every other one", len(ordinary)) as show:
            meshes = reachability.mesh(pods, show)
        pod_mtu = probes.mtu(ordinary[0].netns, _POD_INTERFACE)
        outside = OutsideSite(OUTSIDE, self._state.outside.addresses, cluster.OUTSIDE_PORT)
        ways = list(reachability.ways(pods, sites, outside, pod_mtu))
        with self._screen.progress("one way of every kind", len(ways)) as show:
            results = reachability.measure(ways, show)
        self._screen.reachability(results)
        expected = plan.MTU - OVERLAY_BYTES
        self._check(
            *(mesh.check for mesh in meshes),
            Check(
                f"pods have the largest MTU that the overlay carries, {plan.MTU} less "
                f"{OVERLAY_BYTES}",
                pod_mtu == expected,
                str(pod_mtu),
            ),
        )
        # The table shows these; only what fails is worth a line of its own.
        each = [check for result in results for check in result.checks]
        self._tally.add(*each)
        self._screen.checks([check for check in each if not check.passed])

    def _dump(self, node: str, *options: str) -> str:
        place = entering.of_node(self._layout, self._state, node)
        done = subprocess.run(
            ["ovs-ofctl", "-O", "OpenFlow15", *options, "dump-flows", "br-int"],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **place.environment},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def _explain(self, pods: tuple[Pod, ...]) -> None:
        node = next(pod for pod in pods if not pod.host_network).node
        self._screen.section(
            f"A few flows of {node}: ovs-ofctl --names dump-flows br-int | ovsnet explain"
        )
        chosen = flowdump.sample(flowdump.parse(self._dump(node, "--names")), _FLOWS_SHOWN)
        done = subprocess.run(
            [str(Path(sys.executable).with_name("ovsnet")), "explain"],
            input="".join(f" {flow.line}\n" for flow in chosen),
            capture_output=True,
            text=True,
            check=False,
        )
        self._screen.quote(done.stdout or done.stderr)
        self._check(
            Check(
                "flows that carried the traffic are explained",
                done.returncode == 0 and bool(chosen) and bool(done.stdout.strip()),
                f"{len(chosen)} of {node}",
            )
        )

    def _streams(self, pods: tuple[Pod, ...]) -> list[Stream]:
        ordinary = [pod for pod in pods if not pod.host_network]
        source, near, far = reachability.cast_of(ordinary)
        streams: list[Stream] = []
        for family in (4, 6):
            target = reachability.of_family(far.addresses, family)
            beside = reachability.of_family(near.addresses, family)
            title = f"IPv{family}"
            streams += [
                PingStream(f"ping every 20 ms on one node, {title}", source.netns, beside),
                PingStream(f"ping every 20 ms between nodes, {title}", source.netns, target),
                RequestStream(
                    f"one TCP connection between nodes, {title}",
                    source.netns,
                    (target, far.port),
                    far.name,
                    keep=True,
                ),
                RequestStream(
                    f"new TCP connections between nodes, {title}",
                    source.netns,
                    (target, far.port),
                    far.name,
                    keep=False,
                ),
            ]
        return streams

    def _connected(self) -> list[str]:
        """The nodes whose switch has a connection to the controller at this moment.

        The kernel is asked, for OVSDB's column is_connected is some seconds behind.
        """
        return [
            node.name
            for node in self._state.nodes
            if probes.connections(Path(node.netns), cluster.OPENFLOW_PORT)
        ]

    def _lose_controller(self, pods: tuple[Pod, ...]) -> None:
        self._screen.section("The controller is killed, and comes back")
        nodes = [node.name for node in self._state.nodes]
        with Traffic(self._streams(pods)) as traffic:
            time.sleep(_AFTERWARDS_SECONDS)
            before = {node: flowdump.parse(self._dump(node)) for node in nodes}
            dumped = time.monotonic()
            process.end(process.known(self._layout, CONTROLLER))
            killed = time.monotonic()
            _wait(lambda: not self._connected())
            time.sleep(_ALONE_SECONDS)
            alone = self._connected()
            self._state = cluster.start_process(self._layout, CONTROLLER)
            returned = time.monotonic()
            in_step = _wait(self._in_step)
            time.sleep(_AFTERWARDS_SECONDS)
            elapsed = time.monotonic() - dumped
            after = {node: flowdump.parse(self._dump(node)) for node in nodes}
            counts = traffic.stop()
        written = self._flow_writes()
        status = self._controller()
        self._check(
            Check(
                "while it was gone, no switch had a controller",
                not alone,
                f"for {returned - killed:.1f} s",
            ),
            *(count.check for count in counts),
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
            self._check(Check(f"no flow of {node} was rewritten", found.untouched, found.text))

    def _controller(self) -> Status | None:
        """What the controller says of itself; None while it does not answer."""
        try:
            return read_status(control.fetch(self._state, "/status").encode())
        except probes.UNANSWERED:
            return None

    def _in_step(self) -> bool:
        """Whether all switches have what the controller wants them to have."""
        status = self._controller()
        return status is not None and control.in_step(status, len(self._state.nodes))

    def _flow_writes(self) -> float | None:
        try:
            metrics = control.fetch(self._state, "/metrics")
        except probes.UNANSWERED:
            return None
        return control.total(metrics, control.FLOW_WRITES)


def _written_text(written: float | None) -> str:
    return "no such metric" if written is None else f"{written:.0f} written since it came back"


def _wait(condition: Callable[[], bool], seconds: float = _CONTROLLER_SECONDS) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
