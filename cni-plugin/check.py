"""CHECK and STATUS: is one attachment as ADD left it, and does the node carry pods."""

from __future__ import annotations

from ovsnet.cni import datapath, delegate, links, netns, podside, ports, result, routing
from ovsnet.cni.conf import Request
from ovsnet.cni.edges import Edges, pod_key
from ovsnet.cni.errors import CniError, Code, try_again
from ovsnet.cni.locks import Busy
from ovsnet.cni.netlink import Netlink, NetlinkError
from ovsnet.cni.node import NotReady
from ovsnet.cni.ovsdb import DatabaseUnreachable
from ovsnet.cni.probe import Probe, quickly_then_slowly
from ovsnet.cni.ranges import Addresses
from ovsnet.cni.record import Record, State

_ANSWER_SECONDS = 2.0


class Checker:
    """Looks and tells; changes nothing."""

    def __init__(self, edges: Edges) -> None:
        self._edges = edges

    def check(self, request: Request, namespace: int) -> None:
        """CHECK.

        Raises:
            CniError: 3 if the attachment is not known, 101 with what is not as ADD left it.
        """
        edges = self._edges
        record = edges.store.get(request.attachment)
        if record is None or record.state is not State.READY:
            raise CniError(
                Code.UNKNOWN_CONTAINER,
                f"container {request.container_id} has no interface {request.ifname} here",
            )
        try:
            with edges.locks.held(pod_key(record.pod), edges.deadline):
                problems = self._problems(request, record, namespace)
        except Busy:
            raise try_again(f"another request for pod {record.pod.text} is under way") from None
        except netns.NotANamespace:
            raise CniError(
                Code.INVALID_ENVIRONMENT,
                f"CNI_NETNS is {request.netns!r}, which is no network namespace",
            ) from None
        except DatabaseUnreachable as error:
            raise try_again(f"Open vSwitch's database does not answer: {error}") from None
        if problems:
            raise CniError(
                Code.CHECK_FAILED,
                f"pod {record.pod.text} is not as it was set up",
                "; ".join(problems),
            )
        if record.delegate:
            delegate.of_request(request).check()

    def _problems(self, request: Request, record: Record, namespace: int) -> list[str]:
        try:
            ranges = self._edges.node.network().ranges
            addresses = ranges.addresses(ranges.offset_of(record.addresses))
        except NotReady as reason:
            raise try_again(f"the node is not ready: {reason}") from None
        except ValueError as error:
            return [str(error)]
        problems = self._on_switch(record)
        problems += _told(request, record)
        inside = _in_namespace(namespace, request.ifname, addresses)
        problems += inside
        if not problems and not self._answers(namespace, request.ifname, addresses):
            problems.append("its gateway does not answer")
        return problems

    def _on_switch(self, record: Record) -> list[str]:
        edges = self._edges
        assert record.port is not None
        problems = []
        port = ports.find(edges.database, record.port)
        if port is None or port.owner is None or port.owner.attachment != record.attachment:
            problems.append(f"port {record.port} is not on {edges.bridge}")
        elif port.ofport is None or port.ofport < 0:
            problems.append(f"Open vSwitch cannot use port {record.port}: {port.error}")
        return problems

    def _answers(self, namespace: int, ifname: str, addresses: Addresses) -> bool:
        with netns.entered(namespace):
            probe = Probe(ifname, addresses)
        try:
            until = self._edges.clock() + _ANSWER_SECONDS
            return probe.run(until, quickly_then_slowly(), lambda: False, self._edges.clock)
        finally:
            self._edges.closer.close(probe.socket)

    def status(self, request: Request) -> None:
        """STATUS: returns if the node carries pods.

        A runtime makes a node NotReady that does not, and Kubernetes then evicts its running pods.
        So it is no reason that the next ADD may be refused: without a controller what runs goes
        on, and a full range has all its pods running.

        Raises:
            CniError: 50 if it does not; 51 if running pods are affected too; a delegated IPAM
                plugin's own.
        """
        edges = self._edges
        try:
            edges.node.network()
            controllers = ports.controllers_connected(edges.database, edges.bridge)
        except NotReady as reason:
            raise CniError(self._severity(), f"the node is not ready: {reason}") from None
        except DatabaseUnreachable as error:
            raise CniError(
                self._severity(), f"Open vSwitch's database does not answer: {error}"
            ) from None
        if not datapath.switch_answers(edges.ovs_rundir):
            raise CniError(Code.LIMITED, "ovs-vswitchd does not run")
        if not datapath.has_flows(edges.ovs_rundir, edges.bridge):
            targets = ", ".join(sorted(controllers)) or "none is configured"
            raise CniError(
                Code.NOT_AVAILABLE, f"no controller has programmed the switch yet ({targets})"
            )
        if request.conf.ipam is not None:
            delegate.of_request(request).status(request.conf.version)

    def _severity(self) -> Code:
        """Without ovs-vswitchd running pods lose new connections as well."""
        running = datapath.switch_answers(self._edges.ovs_rundir)
        return Code.NOT_AVAILABLE if running else Code.LIMITED


def _told(request: Request, record: Record) -> list[str]:
    """Compare with what the runtime believes the ADD returned."""
    if request.conf.prev_result is None:
        return []
    try:
        told = set(result.addresses_in(request.conf.prev_result))
    except ValueError as error:
        return [f"prevResult: {error}"]
    missing = sorted(set(record.addresses) - told)
    return [f"prevResult: `ips` lacks {', '.join(missing)}"] if missing else []


def _in_namespace(namespace: int, ifname: str, addresses: Addresses) -> list[str]:
    """What is wrong in the pod's namespace."""
    try:
        with netns.entered(namespace), Netlink() as netlink:
            return _of_interface(netlink, ifname, addresses)
    except NetlinkError as error:
        return [str(error)]


def _of_interface(netlink: Netlink, ifname: str, addresses: Addresses) -> list[str]:
    found = [link for link in links.links(netlink) if link.name == ifname]
    if not found:
        return [f"interface {ifname} is gone"]
    link = found[0]
    problems = []
    if not link.up:
        problems.append(f"interface {ifname} is down")
    if link.mac != addresses.pod_mac:
        problems.append(f"interface {ifname} has MAC {link.mac} and not {addresses.pod_mac}")
    present = {(a.address, a.prefix) for a in links.addresses(netlink) if a.index == link.index}
    problems += [
        f"interface {ifname} lacks address {address}/{prefix}"
        for address, prefix in podside.wanted_addresses(addresses)
        if (address, prefix) not in present
    ]
    known = set(links.permanent_neighbours(netlink))
    problems += [
        f"permanent neighbour {n.address} at {n.mac} is missing"
        for n in podside.wanted_neighbours(link.index, addresses)
        if n not in known
    ]
    routes = set(routing.routes(netlink))
    problems += [
        f"route {route.text} is missing"
        for route in podside.wanted_routes(link.index, addresses)
        if route not in routes
    ]
    return problems
