"""What is on record of a pod when an ADD comes for it: this very attachment, an attempt that was
interrupted, or an older sandbox, which the newest one replaces.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ovsnet import logs
from ovsnet.cni import links, ports
from ovsnet.cni.conf import PodRef, Request
from ovsnet.cni.edges import Edges
from ovsnet.cni.errors import CniError, Code, try_again
from ovsnet.cni.ovsdb import DatabaseUnreachable
from ovsnet.cni.record import Record, State
from ovsnet.cni.teardown import Teardown, TeardownError

_log = logs.get("succession")


class Succession:
    """Clears the way for attachments. To be used with the pod's lock held."""

    def __init__(self, edges: Edges, teardown: Teardown) -> None:
        self._edges = edges
        self._teardown = teardown

    def clear_the_way(
        self, request: Request, pod: PodRef, netns_id: str
    ) -> Mapping[str, Any] | None:
        """Deal with what is on record for the container and the pod.

        Returns the earlier result if this very attachment is in place. Otherwise nothing of the
        pod is left afterwards: not of an attempt that was interrupted, and not of an older
        sandbox, as the newest wins.

        Raises:
            CniError: the container has another interface, or was replaced by a newer sandbox, or
                something of an earlier one cannot be removed.
        """
        for other in self._edges.store.of_container(request.container_id):
            if other.attachment != request.attachment and other.state is State.READY:
                raise CniError(
                    Code.INVALID_ENVIRONMENT,
                    f"CNI_IFNAME is {request.ifname!r}, but container {request.container_id} is"
                    f" attached as {other.attachment.ifname!r} already; a pod has one interface",
                )
        records = self._edges.store.of_pod(pod)
        own = next((r for r in records if r.attachment == request.attachment), None)
        # First of all: a late ADD of an old sandbox must not replace the newer one.
        if own is not None and own.state is State.SUPERSEDED:
            raise CniError(
                Code.UNKNOWN_CONTAINER,
                f"container {request.container_id} was replaced by a newer sandbox of pod"
                f" {pod.text}",
            )
        if own is not None and own.netns_id == netns_id and self._in_place(own):
            return own.result
        if own is not None:
            self._dismantle(own)
        for record in records:
            if record is own or record.state is State.SUPERSEDED:
                continue
            _log.info(
                "newer sandbox replaces the old one",
                pod=pod.text,
                port=record.port,
                old=record.attachment.container_id,
                new=request.container_id,
            )
            # What is being removed has had its DEL: nobody would come to clear its marker away.
            self._dismantle(record, superseded=record.state is not State.REMOVING)
        return None

    def _in_place(self, record: Record) -> bool:
        if record.state is not State.READY or record.port is None:
            return False
        port = self._find(record.port)
        return (
            port is not None
            and port.owner is not None
            and port.owner.attachment == record.attachment
            and any(link.name == record.port for link in links.links(self._edges.netlink()))
        )

    def _find(self, name: str) -> ports.SwitchPort | None:
        try:
            return ports.find(self._edges.database, name)
        except DatabaseUnreachable as error:
            raise try_again(f"Open vSwitch's database does not answer: {error}") from None

    def _dismantle(self, record: Record, *, superseded: bool = False) -> None:
        try:
            self._teardown.dismantle(record, superseded=superseded)
        except TeardownError as error:
            raise try_again(
                f"what is left of an earlier attempt for pod {record.pod.text} cannot be removed:"
                f" {error}"
            ) from None
