"""Taking endpoints down: the whole of DEL, of GC, and the undo of an ADD that failed.

`Teardown.dismantle` takes any record, whatever was made of it before the agent died, and may be
repeated. The port goes first, then the pair, then the addresses, and the record last.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence

from ovsnet import logs
from ovsnet.cni import delegate, links, ports
from ovsnet.cni.conf import PLUGIN_TYPE, Attachment, Request
from ovsnet.cni.edges import Edges, pod_key
from ovsnet.cni.errors import CniError, try_again
from ovsnet.cni.locks import Busy
from ovsnet.cni.netlink import NetlinkError
from ovsnet.cni.ovsdb import DatabaseUnreachable, TransactionError
from ovsnet.cni.record import Record, State
from ovsnet.cni.removal import Remover

_log = logs.get("teardown")

TeardownError = (DatabaseUnreachable, TransactionError, NetlinkError, CniError)
"""What `dismantle` may raise: something is left, and its record stays."""


class Teardown:
    """Takes endpoints down. Safe to use from many threads."""

    def __init__(self, edges: Edges) -> None:
        self._edges = edges
        self._remover = Remover(self._finish_later)

    def stop(self) -> None:
        """Finish removals that are under way in the background."""
        self._remover.stop()

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

    def collect(self, network: str, valid: Collection[Attachment] | None) -> None:
        """GC: take down every attachment of the network that is not in `valid`.

        Without a list, those whose pair is gone, as it goes with the container's namespace:
        nothing that runs is removed on doubt. What is being added at this moment is left alone:
        the runtime's list may be older.

        Raises:
            CniError: some could not be taken down; the others were.
        """
        edges = self._edges
        failed = []
        if valid is None:
            present = {link.name for link in links.links(edges.netlink())}
            valid = {r.attachment for r in edges.store.all() if r.port in present}
        for record in edges.store.all():
            if record.network != network or record.attachment in valid:
                continue
            try:
                with edges.locks.held(pod_key(record.pod), edges.deadline):
                    current = edges.store.get(record.attachment)
                    if current is not None and current.state is not State.ADDING:
                        _log.info("collected", pod=record.pod.text, port=record.port)
                        self.dismantle(current)
            except Busy:
                failed.append(f"{record.pod.text}: another request is under way")
            except TeardownError as error:
                failed.append(f"{record.pod.text}: {error}")
        if failed:
            raise try_again("not everything could be removed: " + "; ".join(failed))

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
                edges.netlink().run([links.delete_link(record.port)])
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
            edges.netlink().run(links.delete_links(names))
        edges.checkpoint("unlinked")
        for record in records:
            if record.delegate:
                _release(record)
                edges.checkpoint("released")
            edges.store.end(record.attachment, edges.wall(), superseded=superseded)


def _release(record: Record) -> None:
    """Have the delegated IPAM plugin release the addresses.

    One that gave no usable addresses, for its configuration may be the very reason why the ADD
    failed, is asked as the specification demands, but need not agree.
    """
    try:
        delegate.of_record(record.delegate).delete()
    except CniError as error:
        if record.addresses:
            raise
        _log.warning("nothing was released", pod=record.pod.text, error=error)


def _by_pod(records: Sequence[Record]) -> dict[tuple[str, str], list[Record]]:
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault(pod_key(record.pod), []).append(record)
    return groups
