"""A pod's endpoint: its record, address, pair and port, made in order, or not at all.

Nothing is made before it is on record, so whatever the agent's death interrupts is found again
and taken down by `teardown`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ovsnet import logs
from ovsnet.cni import datapath, delegate, links, netns, podside, ports, result
from ovsnet.cni.conf import Attachment, PodRef, Request
from ovsnet.cni.diagnosis import Silence
from ovsnet.cni.edges import Edges, pod_key
from ovsnet.cni.errors import CniError, Code, try_again
from ovsnet.cni.locks import Busy
from ovsnet.cni.node import Network, NotReady
from ovsnet.cni.ovsdb import DatabaseUnreachable, TransactionError
from ovsnet.cni.probe import quickly_then_slowly
from ovsnet.cni.ranges import Addresses
from ovsnet.cni.record import Record, State
from ovsnet.cni.shaping import Limit
from ovsnet.cni.store import AddressTaken, PortNamesTaken, RangeExhausted
from ovsnet.cni.succession import Succession
from ovsnet.cni.teardown import Teardown, TeardownError

_log = logs.get("endpoint")


class Endpoints:
    """Makes endpoints. Safe to use from many threads."""

    def __init__(self, edges: Edges, teardown: Teardown) -> None:
        self._edges = edges
        self._teardown = teardown
        self._succession = Succession(edges, teardown)

    def add(
        self, request: Request, namespace: int, given_up: Callable[[], bool]
    ) -> Mapping[str, Any]:
        """ADD: returns the newest version's result once the network works for the pod.

        `namespace` is an open descriptor of the pod's network namespace. `given_up` is True when
        nobody waits for the answer any more.

        Raises:
            CniError: it failed, and nothing is left of the attempt.
        """
        assert request.pod is not None
        edges = self._edges
        until = edges.clock() + edges.deadline
        try:
            with edges.locks.held(pod_key(request.pod), edges.deadline):
                return self._add(request, request.pod, namespace, until, given_up)
        except Busy:
            raise try_again(
                f"an earlier request for pod {request.pod.text} is still under way"
            ) from None

    def _add(
        self,
        request: Request,
        pod: PodRef,
        namespace: int,
        until: float,
        given_up: Callable[[], bool],
    ) -> Mapping[str, Any]:
        edges = self._edges
        netns_id = _usable(namespace, request.netns)
        done = self._succession.clear_the_way(request, pod, netns_id)
        if done is not None:
            return done
        network = self._network()
        if podside.has_interface(namespace, request.ifname):
            raise CniError(
                Code.INVALID_ENVIRONMENT,
                f"CNI_IFNAME is {request.ifname!r}, an interface that the container has already",
            )
        record = Record(
            request.attachment,
            State.ADDING,
            request.conf.name,
            pod,
            request.netns,
            netns_id,
            edges.boot_id,
        )
        try:
            record = edges.store.begin(record)
        except PortNamesTaken:
            raise try_again(
                f"every port name of pod {pod.text} is in use by another pod of this node"
            ) from None
        try:
            return self._make(request, record, network, namespace, until, given_up)
        except BaseException as error:
            self._undo(record.attachment, error)
            raise

    def _network(self) -> Network:
        try:
            return self._edges.node.network()
        except NotReady as reason:
            raise try_again(f"the node is not ready for pods: {reason}") from None

    def _make(
        self,
        request: Request,
        record: Record,
        network: Network,
        namespace: int,
        until: float,
        given_up: Callable[[], bool],
    ) -> Mapping[str, Any]:
        edges = self._edges
        port = record.port
        assert port is not None
        edges.checkpoint("begun")
        record, addresses = self._addresses(request, record, network)
        edges.checkpoint("addressed")
        try:
            limits = request.conf.shaping
            self._plug(record, addresses, network, namespace, limits.into)
            probe = podside.configure(
                namespace,
                request.ifname,
                addresses,
                userspace=network.userspace,
                limit=limits.out,
            )
        except DatabaseUnreachable as error:
            raise try_again(f"Open vSwitch's database does not answer: {error}") from None
        except TransactionError as error:
            raise try_again(f"Open vSwitch's database refused port {port}: {error}") from None
        except OSError as error:
            raise CniError(
                Code.IO_FAILURE, f"the interface of pod {record.pod.text} cannot be made: {error}"
            ) from None
        edges.checkpoint("configured")
        try:
            answered = probe.run(until, quickly_then_slowly(), given_up, edges.clock)
        finally:
            edges.closer.close(probe.socket)
        if not answered:
            raise self._unanswered(record, given_up())
        edges.checkpoint("answered")
        made = result.success(
            port,
            request.ifname,
            request.netns,
            network.mtu,
            addresses,
            request.conf.dns,
        )
        edges.store.complete(record.attachment, made)
        return made

    def _addresses(
        self, request: Request, record: Record, network: Network
    ) -> tuple[Record, Addresses]:
        store = self._edges.store
        if request.conf.ipam is None:
            try:
                return store.reserve(record, network.ranges, self._edges.wall())
            except RangeExhausted as error:
                raise try_again(str(error)) from None
        plugin = delegate.of_request(request)
        plugin.executable()
        store.delegate(record.attachment, plugin.to_record())
        given = plugin.add()
        self._edges.checkpoint("delegated")
        try:
            addresses = network.ranges.addresses(
                network.ranges.offset_of(result.addresses_in(given))
            )
            return store.hold(record, addresses), addresses
        except (ValueError, AddressTaken) as error:
            raise CniError(
                Code.INVALID_CONFIG,
                f"ipam.type: plugin {plugin.kind!r} gave addresses that this node cannot use:"
                f" {error}",
            ) from None

    def _plug(
        self,
        record: Record,
        addresses: Addresses,
        network: Network,
        namespace: int,
        limit: Limit | None,
    ) -> None:
        edges = self._edges
        assert record.port is not None
        veth = links.Veth(
            record.port,
            addresses.host_mac,
            record.attachment.ifname,
            addresses.pod_mac,
            namespace,
            network.mtu,
        )
        edges.netlink().run(links.create_veth(veth))
        edges.checkpoint("linked")
        self._attach(record, ports.new_limit(record.port, limit))
        edges.checkpoint("plugged")

    def plug(self, record: Record) -> None:
        """Put the port of a record, whose pair is there, on the bridge again.

        Raises:
            DatabaseUnreachable, TransactionError: it is not there.
        """
        assert record.port is not None
        self._attach(record, ports.known_limit(self._edges.database, record.port))

    def _attach(self, record: Record, limit: ports.PortLimit) -> None:
        edges = self._edges
        assert record.port is not None
        owner = ports.PortOwner(
            record.network,
            record.pod,
            record.attachment,
            record.netns,
            record.netns_id,
            record.boot_id,
            record.addresses,
        )
        edges.database.transact(ports.attach_operations(edges.bridge, record.port, owner, limit))

    def _unanswered(self, record: Record, given_up: bool) -> CniError:
        """The error that says why nothing let the pod in.

        If it was the controller, two ports of one name may be the reason: the next attempt uses
        another.
        """
        edges = self._edges
        assert record.port is not None
        if given_up:
            return try_again(f"the container runtime gave up on pod {record.pod.text}")
        try:
            silence = Silence(
                record.pod.text,
                record.port,
                edges.bridge,
                edges.deadline,
                ports.find(edges.database, record.port),
                ports.controllers_connected(edges.database, edges.bridge),
                datapath.switch_answers(edges.ovs_rundir),
            )
        except DatabaseUnreachable as error:
            return try_again(f"Open vSwitch's database does not answer: {error}")
        if silence.refused:
            edges.store.failed_attempt(record.pod)
        return try_again(silence.explain())

    def _undo(self, attachment: Attachment, error: BaseException) -> None:
        """Take down a failed attempt. What cannot be removed now stays on record for later."""
        record = self._edges.store.get(attachment)
        if record is None:
            return
        _log.warning("ADD failed", pod=record.pod.text, port=record.port, error=str(error))
        try:
            self._teardown.dismantle(record)
        except TeardownError as left:
            _log.error(
                "undo is not complete yet", pod=record.pod.text, port=record.port, error=left
            )


def _usable(namespace: int, path: str) -> str:
    """The identity of the container's namespace, which must not be the node's own.

    Raises:
        CniError: it is the node's own, or no network namespace.
    """
    identity = netns.identity(namespace)
    if identity == netns.own_identity():
        raise CniError(
            Code.INVALID_ENVIRONMENT,
            f"CNI_NETNS is {path!r}, the node's own network namespace; expected the container's",
        )
    try:
        with netns.entered(namespace):
            return identity
    except netns.NotANamespace:
        raise CniError(
            Code.INVALID_ENVIRONMENT,
            f"CNI_NETNS is {path!r}, which is no network namespace",
        ) from None
