"""Tells when a device that matters to the agent appears, changes or goes (rtnetlink(7))."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Callable, Collection

from ovsnet import logs
from ovsnet.cni.links import named_in

_log = logs.get("linkwatch")
_LINK_GROUP = 1
_RECEIVE_BYTES = 1 << 16


class LinkWatch:
    """A thread that calls `changed` for every change of these devices of the namespace in which
    it was made.
    """

    def __init__(self, names: Collection[str], changed: Callable[[], None]) -> None:
        self._names = frozenset(names)
        self._changed = changed
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.bind((0, _LINK_GROUP))
        self._reader, self._writer = os.pipe()
        self._thread = threading.Thread(target=self._run, name="linkwatch", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; `changed` is not called any more."""
        os.write(self._writer, b"\0")
        self._thread.join()
        self._socket.close()
        os.close(self._reader)
        os.close(self._writer)

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(self._reader, select.POLLIN)
        while True:
            if any(descriptor == self._reader for descriptor, _ in poll.poll()):
                return
            try:
                found = named_in(self._socket.recv(_RECEIVE_BYTES))
            except OSError as error:
                # There was more than the socket holds: it may have been any device.
                _log.debug("changes of devices were missed", reason=error)
                found = self._names
            if not self._names.isdisjoint(found):
                self._changed()
