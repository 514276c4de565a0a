"""A pod's endpoint: its record, address, pair and port, made in order and taken down in order.

Nothing is made before it is on record and nothing leaves the record before it is gone. Whatever
the agent's death interrupts is therefore found again by `dismantle`, which is also the undo of a
failed ADD, the whole of a DEL, and what garbage collection calls: it takes any record and may be
repeated.

`checkpoint` is called between any two steps with the name of the one just done.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ovsnet import logs
from ovsnet.cni import delegate, links, netns, podside, ports, result
from ovsnet.cni.conf import PLUGIN_TYPE, Attachment, PodRef, Request
from ovsnet.cni.errors import CniError, Code, try_again
from ovsnet.cni.locks import Busy, KeyedLocks
from ovsnet.cni.netlink import Netlink, NetlinkError
from ovsnet.cni.node import Network, Node, NotReady
from ovsnet.cni.ovsdb import Database, DatabaseUnreachable, TransactionError
from ovsnet.cni.probe import Closer, quickly_then_slowly
from ovsnet.cni.ranges import Addresses
from ovsnet.cni.removal import Remover
from ovsnet.cni.store import (
    AddressTaken,
    PortNamesTaken,
    RangeExhausted,
    Record,
    State,
    Store,
)

_log = logs.get("endpoint")


@dataclass(frozen=True)
class Edges:
    """What endpoints are made with."""

    store: Store
    database: Database
    node: Node
    closer: Closer
    bridge: str
    boot_id: str
    deadline: float
    """Seconds that an ADD may take."""
    locks: KeyedLocks = field(default_factory=KeyedLocks)
    checkpoint: Callable[[str], None] = lambda step: None
    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


class Endpoints:
    """Makes and takes down endpoints. Safe to use from many threads."""

    def __init__(self, edges: Edges) -> None:
        self._edges = edges
        self._mine = threading.local()
        self._remover = Remover(self._finish_later)

    def stop(self) -> None:
        """Finish removals that are under way in the background."""
        self._remover.stop()

    @property
    def _netlink(self) -> Netlink:
        """This thread's netlink socket in the node's namespace."""
        found = getattr(self._mine, "netlink", None)
        if found is None:
            found = self._mine.netlink = Netlink()
        assert isinstance(found, Netlink)
        return found

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
        for other in edges.store.of_container(request.container_id):
            if other.attachment != request.attachment and other.state is State.READY:
                raise CniError(
                    Code.INVALID_ENVIRONMENT,
                    f"CNI_IFNAME is {request.ifname!r}, but container {request.container_id} is"
                    f" attached as {other.attachment.ifname!r} already; a pod has one interface",
                )
        done = self._clear_the_way(request, pod, netns_id)
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

    def _clear_the_way(
        self, request: Request, pod: PodRef, netns_id: str
    ) -> Mapping[str, Any] | None:
        """Deal with what is on record for the pod.

        Returns the earlier result if this very attachment is in place. Otherwise nothing of the
        pod is left afterwards: not of an attempt that was interrupted, and not of an older
        sandbox, as the newest wins.
        """
        for record in self._edges.store.of_pod(pod):
            if record.attachment == request.attachment:
                if record.state is State.SUPERSEDED:
                    raise CniError(
                        Code.UNKNOWN_CONTAINER,
                        f"container {request.container_id} was replaced by a newer sandbox of pod"
                        f" {pod.text}",
                    )
                if record.netns_id == netns_id and self._in_place(record):
                    return record.result
                self._dismantle_or_fail(record)
            elif record.state is not State.SUPERSEDED:
                _log.info(
                    "newer sandbox replaces the old one",
                    pod=pod.text,
                    port=record.port,
                    old=record.attachment.container_id,
                    new=request.container_id,
                )
                self._dismantle_or_fail(record, superseded=True)
        return None

    def _in_place(self, record: Record) -> bool:
        if record.state is not State.READY or record.port is None:
            return False
        port = self._find(record.port)
        return (
            port is not None
            and port.owner is not None
            and port.owner.attachment == record.attachment
            and any(link.name == record.port for link in links.links(self._netlink))
        )

    def _find(self, name: str) -> ports.SwitchPort | None:
        try:
            return ports.find(self._edges.database, name)
        except DatabaseUnreachable as error:
            raise try_again(f"Open vSwitch's database does not answer: {error}") from None

    def _dismantle_or_fail(self, record: Record, *, superseded: bool = False) -> None:
        try:
            self.dismantle(record, superseded=superseded)
        except (DatabaseUnreachable, TransactionError, NetlinkError, CniError) as error:
            raise try_again(
                f"what is left of an earlier attempt for pod {record.pod.text} cannot be removed:"
                f" {error}"
            ) from None

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
        assert record.port is not None
        edges.checkpoint("begun")
        record, addresses = self._addresses(request, record, network)
        edges.checkpoint("addressed")
        try:
            self._plug(record, addresses, network, namespace)
            probe = podside.configure(
                namespace, request.ifname, addresses, userspace=network.userspace
            )
        except DatabaseUnreachable as error:
            raise try_again(f"Open vSwitch's database does not answer: {error}") from None
        except TransactionError as error:
            raise try_again(
                f"Open vSwitch's database refused port {record.port}: {error}"
            ) from None
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
            raise self._silence(record, given_up())
        edges.checkpoint("answered")
        made = result.success(
            record.port,
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

    def _plug(self, record: Record, addresses: Addresses, network: Network, namespace: int) -> None:
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
        self._netlink.run(links.create_veth(veth))
        edges.checkpoint("linked")
        self.plug(record)
        edges.checkpoint("plugged")

    def plug(self, record: Record) -> None:
        """Put the port of a record, whose pair is there, on the bridge.

        Raises:
            DatabaseUnreachable, TransactionError: it is not there.
        """
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
        edges.database.transact(ports.attach_operations(edges.bridge, record.port, owner))

    def _silence(self, record: Record, given_up: bool) -> CniError:
        """Why nothing answered for the gateway, in an operator's words."""
        edges = self._edges
        pod = record.pod.text
        assert record.port is not None
        if given_up:
            return try_again(f"the container runtime gave up on pod {pod}")
        within = f"within {edges.deadline:g} s"
        try:
            port = ports.find(edges.database, record.port)
            controllers = ports.controllers_connected(edges.database, edges.bridge)
        except DatabaseUnreachable as error:
            return try_again(f"Open vSwitch's database does not answer: {error}")
        if port is None:
            return try_again(f"port {record.port} of pod {pod} was removed from {edges.bridge}")
        if port.ofport is None:
            return try_again(
                f"Open vSwitch did not take up port {record.port} of pod {pod} {within}; is"
                " ovs-vswitchd running?"
            )
        if port.ofport < 0:
            return try_again(
                f"Open vSwitch cannot use port {record.port} of pod {pod}: {port.error}"
            )
        if not any(controllers.values()):
            targets = ", ".join(sorted(controllers)) or "none is configured"
            return try_again(
                f"the switch has no connection to a controller ({targets}), so nothing lets pod"
                f" {pod} in"
            )
        edges.store.failed_attempt(record.pod)
        return try_again(
            f"the controller is connected but installed no flows for port {record.port} of pod"
            f" {pod} {within}; `ovsnet status` lists refused ports and why"
        )

    def delete(self, request: Request) -> None:
        """DEL: the pod is off the network when this returns, its addresses are not in use.

        Succeeds when nothing is left or ever was, and also while Open vSwitch is away: then the
        pair is gone and the port's row is removed later.

        Raises:
            CniError: a delegated IPAM plugin failed, or another request holds the pod.
        """
        edges = self._edges
        record = edges.store.get(request.attachment)
        if record is None:
            if request.conf.ipam is not None and request.conf.ipam.get("type") != PLUGIN_TYPE:
                delegate.of_request(request).delete()
            return
        try:
            with edges.locks.held(pod_key(record.pod), edges.deadline):
                # It may have ended, or begun anew, while we waited.
                current = edges.store.get(request.attachment)
                unplugged = current if current is not None and self._delete(current) else None
        except Busy:
            raise try_again(
                f"an earlier request for pod {record.pod.text} is still under way"
            ) from None
        if unplugged is not None:
            self._remover.submit(unplugged)

    def _delete(self, record: Record) -> bool:
        """Take the port off the bridge; True if the rest may be done in the background."""
        if record.state is State.SUPERSEDED:
            self._edges.store.end(record.attachment, self._edges.wall())
            return False
        try:
            self.unplug(record)
        except (DatabaseUnreachable, TransactionError) as error:
            _log.warning(
                "port stays in the database for now",
                pod=record.pod.text,
                port=record.port,
                error=error,
            )
            return False
        if record.delegate:
            self.finish([record])
            return False
        return True

    def _finish_later(self, records: Sequence[Record]) -> None:
        """Finish removals in the background, each if it is still the same one.

        A pod that somebody else holds is left to them: an ADD removes what it finds, a DEL hands
        it in again. Waiting here would hold up all the other pods.
        """
        with contextlib.ExitStack() as held:
            current = []
            for key, group in _by_pod(records).items():
                try:
                    held.enter_context(self._edges.locks.held(key, 0))
                except Busy:
                    continue
                current += [self._edges.store.get(record.attachment) for record in group]
            self.finish([c for c in current if c is not None and c.state is State.REMOVING])

    def _undo(self, attachment: Attachment, error: BaseException) -> None:
        """Take down a failed attempt. What cannot be removed now stays on record for later."""
        record = self._edges.store.get(attachment)
        if record is None:
            return
        _log.warning("ADD failed", pod=record.pod.text, port=record.port, error=str(error))
        try:
            self.dismantle(record)
        except (DatabaseUnreachable, TransactionError, NetlinkError, CniError) as left:
            _log.error(
                "undo is not complete yet", pod=record.pod.text, port=record.port, error=left
            )

    def dismantle(self, record: Record, *, superseded: bool = False) -> None:
        """Take down everything of a record, then end it. The caller holds the pod's lock.

        Raises:
            DatabaseUnreachable, TransactionError, NetlinkError, CniError: something is left and
                the record stays; the pair is gone all the same if it could be removed at all.
        """
        self.unplug(record)
        self.finish([record], superseded=superseded)

    def unplug(self, record: Record) -> None:
        """Take the port off the bridge, the part of a removal that DEL waits for.

        Raises:
            DatabaseUnreachable, TransactionError: the port is still in the database.
        """
        edges = self._edges
        if record.state is not State.REMOVING:
            edges.store.removing(record.attachment)
        edges.checkpoint("removing")
        if record.port is not None:
            try:
                ports.detach(edges.database, edges.bridge, record.port)
            except (DatabaseUnreachable, TransactionError):
                self._netlink.run([links.delete_link(record.port)])
                raise
        edges.checkpoint("unplugged")

    def finish(self, records: Sequence[Record], *, superseded: bool = False) -> None:
        """Delete the pairs, release the addresses, end the records. The caller holds the pods.

        Raises:
            NetlinkError, CniError: something is left and its record stays.
        """
        edges = self._edges
        names = [record.port for record in records if record.port is not None]
        if names:
            self._netlink.run(links.delete_links(names))
        edges.checkpoint("unlinked")
        for record in records:
            if record.delegate:
                delegate.of_record(record.delegate).delete()
                edges.checkpoint("released")
            edges.store.end(record.attachment, edges.wall(), superseded=superseded)


def pod_key(pod: PodRef) -> tuple[str, str]:
    """What a pod's lock goes by: its name, under which a new one follows the old."""
    return pod.namespace, pod.name


def _by_pod(records: Sequence[Record]) -> dict[tuple[str, str], list[Record]]:
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault(pod_key(record.pod), []).append(record)
    return groups


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
