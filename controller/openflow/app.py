"""The os-ken application: accepts switches and turns what they say into events.

`OpenFlowServer` starts and stops it. Events go to one function, called from the connections'
threads, in order for each connection; it should do no more than put them in a queue.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeVar, cast

from os_ken.base.app_manager import AppManager, OSKenApp
from os_ken.controller import ofp_event
from os_ken.controller.handler import (
    CONFIG_DISPATCHER,
    MAIN_DISPATCHER,
    set_ev_handler,
)
from os_ken.controller.ofp_handler import OFPHandler

from ovsnet.controller.belief import Port
from ovsnet.controller.openflow.connection import Connection, Deliver
from ovsnet.controller.openflow.events import (
    BundleAnswered,
    Connected,
    Echoed,
    Event,
    PortChange,
    PortChanged,
    Refused,
    RoleGranted,
    RoleLost,
)
from ovsnet.controller.openflow.protocol import OFP_VERSION, BundleControl, ControllerRole
from ovsnet.controller.openflow.tls import TlsStream
from ovsnet.controller.trust.newcomers import Newcomers
from ovsnet.controller.trust.refusals import TellRefusal

_LOG = logging.getLogger(__name__)

_BACKLOG: Final = 1024
_MOST_NEWCOMERS: Final = 2048
_PAUSE_SECONDS: Final = 0.1
_EXPERIMENTER_ERROR: Final = 0xFFFF


_Handler = TypeVar("_Handler", bound=Callable[..., None])


def _on(event_class: Any, state: str) -> Callable[[_Handler], _Handler]:
    """os-ken's decorator of handlers, with a type. They are called in the connection's thread."""
    return cast(Callable[[_Handler], _Handler], set_ev_handler(event_class, state))


class OpenFlowApp(OFPHandler):  # type: ignore[misc]  # os-ken has no types
    """os-ken's handler of the handshake, with handlers for what the controller needs."""

    OFP_VERSIONS = (OFP_VERSION,)

    def start(self) -> None:
        """Start os-ken's own thread; `OpenFlowServer` listens, in place of os-ken's server.

        os-ken's server listens on one address, cannot be stopped, and its connections read as
        they like.
        """
        OSKenApp.start(self)

    @_on(ofp_event.EventOFPSwitchFeatures, CONFIG_DISPATCHER)
    def keep_features(self, event: Any) -> None:
        """What the switch can do becomes part of its introduction."""
        event.msg.datapath.features = event.msg

    @_on(ofp_event.EventOFPDescStatsReply, MAIN_DISPATCHER)
    def introduce(self, event: Any) -> None:
        """Features, ports and now the description are known: the switch is connected."""
        connection: Connection = event.msg.datapath
        if connection.introduced:
            return
        ports = connection.ports or {}
        connection.introduce(
            Connected(
                connection=connection.number,
                address=connection.peer,
                datapath_id=connection.features.datapath_id,
                description=event.msg.body.dp_desc.decode(errors="replace"),
                tables=connection.features.n_tables,
                capabilities=connection.features.capabilities,
                ports=frozenset(map(_port, ports.values())),
                serial=event.msg.body.serial_num.decode(errors="replace"),
            )
        )

    @_on(ofp_event.EventOFPPortStatus, MAIN_DISPATCHER)
    def port_status(self, event: Any) -> None:
        """A port came, went or changed. Before the introduction, os-ken's record has it."""
        connection: Connection = event.msg.datapath
        change = _PORT_CHANGES.get(event.msg.reason, PortChange.MODIFIED)
        connection.tell(PortChanged(connection.number, change, _port(event.msg.desc)))

    @_on(ofp_event.EventOFPRoleReply, MAIN_DISPATCHER)
    def role_reply(self, event: Any) -> None:
        """The answer to a role request."""
        msg = event.msg
        role = ControllerRole(msg.role)
        msg.datapath.tell(RoleGranted(msg.datapath.number, msg.xid, role, msg.generation_id))

    @_on(ofp_event.EventOFPRoleStatus, MAIN_DISPATCHER)
    def role_status(self, event: Any) -> None:
        """Another controller changed our role."""
        connection: Connection = event.msg.datapath
        connection.tell(RoleLost(connection.number, ControllerRole(event.msg.role)))

    @_on(ofp_event.EventOFPBundleCtrlMsg, MAIN_DISPATCHER)
    def bundle_control(self, event: Any) -> None:
        """The answer to a bundle-control message."""
        msg = event.msg
        control = BundleControl(msg.type)
        msg.datapath.tell(BundleAnswered(msg.datapath.number, msg.xid, control))

    @_on(ofp_event.EventOFPErrorMsg, MAIN_DISPATCHER)
    def error(self, event: Any) -> None:
        """The switch refused something that it was sent."""
        msg = event.msg
        number, names = msg.datapath.number, msg.datapath.ofproto
        if msg.type == _EXPERIMENTER_ERROR:
            kind, code, data = msg.type, msg.exp_type, msg.data
            text = f"an extension's error {msg.exp_type} of {msg.experimenter:#x}"
        else:
            kind, code, data = msg.type, msg.code, msg.data
            text = f"{names.ofp_error_type_to_str(kind)} {names.ofp_error_code_to_str(kind, code)}"
        msg.datapath.tell(Refused(number, msg.xid, kind, code, text, bytes(data)))

    @_on(ofp_event.EventOFPEchoReply, MAIN_DISPATCHER)
    def echo_reply(self, event: Any) -> None:
        """A sign of life that we asked for."""
        connection: Connection = event.msg.datapath
        connection.tell(Echoed(connection.number, event.msg.xid))


_PORT_CHANGES: Final = {
    0: PortChange.ADDED,
    1: PortChange.REMOVED,
    2: PortChange.MODIFIED,
}


def _port(description: Any) -> Port:
    name = description.name
    if isinstance(name, bytes):
        name = name.decode(errors="replace")
    return Port(description.port_no, name, description.hw_addr)


class OpenFlowServer:
    """Listens for switches while it is open: a context manager. One at a time in a process.

    `deliver` gets every event, from several threads. `addresses` are pairs of an IP address and a
    port (0: any that is free). `tls` gives what a new connection is secured with, or None while
    there is nothing yet, and nobody is let in; without `tls` switches speak in plain text, and are
    believed whatever node they say they are. `refused` is called for each that has not shown its
    node's certificate.

    Raises:
        OSError: an address cannot be listened on.
    """

    def __init__(
        self,
        addresses: Sequence[tuple[str, int]],
        deliver: Deliver,
        tls: Callable[[], ssl.SSLContext | None] | None = None,
        refused: TellRefusal = lambda _: None,
    ) -> None:
        self._deliver = deliver
        self._tls = tls
        self._refused = refused
        self._newcomers: Newcomers[int] = Newcomers(_MOST_NEWCOMERS)
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._connections: dict[int, tuple[Connection, threading.Thread]] = {}
        self._open = True
        self._sockets: list[socket.socket] = []
        try:
            self._sockets += map(_listen, addresses)
        except OSError:
            self._close_sockets()
            raise
        self._manager = AppManager()
        self._app = self._manager.instantiate(OpenFlowApp)
        self._app.start()
        self._acceptors = [
            threading.Thread(target=self._accept, args=(sock,), name="openflow-accept", daemon=True)
            for sock in self._sockets
        ]
        for thread in self._acceptors:
            thread.start()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The addresses that are listened on, with their real ports."""
        return [sock.getsockname()[:2] for sock in self._sockets]

    def send(self, connection: int, data: bytes) -> None:
        """Queue bytes for a switch and return at once; nothing happens if it is gone."""
        found = self._connections.get(connection)
        if found is not None:
            found[0].send(data)

    def end(self, connection: int, reason: str) -> None:
        """Close a connection, for this reason; nothing happens if it is gone."""
        found = self._connections.get(connection)
        if found is not None:
            found[0].end(reason)

    def close(self) -> None:
        """Stop listening, end all connections and wait for their threads. Twice is harmless."""
        with self._lock:
            if not self._open:
                return
            self._open = False
        self._close_sockets()
        for thread in self._acceptors:
            thread.join()
        for connection, thread in list(self._connections.values()):
            connection.end("the controller is stopping")
            thread.join()
        self._manager.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _close_sockets(self) -> None:
        for sock in self._sockets:
            # Closing alone does not wake a thread that waits in accept.
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                sock, address = listening.accept()
            except OSError as error:
                if not self._open:
                    return
                # No descriptor is left, most likely; it would fail again at once.
                _LOG.error("accepting a switch failed: %s", error)
                time.sleep(_PAUSE_SECONDS)
                continue
            number = next(self._numbers)
            thread = threading.Thread(
                target=self._serve,
                args=(sock, address, number),
                name=f"openflow-{number}",
                daemon=True,
            )
            thread.start()

    def _serve(self, sock: socket.socket, address: tuple[str, int], number: int) -> None:
        """One connection's thread."""
        stream = self._secured(sock)
        if stream is None:
            sock.close()
            return
        connection = Connection(stream, address, number, self._told, self._refused)
        with self._lock:
            if not self._open:
                stream.close()
                return
            self._connections[number] = connection, threading.current_thread()
            leaves = self._newcomers.enter(number, address[0])
        if leaves is not None:
            self.end(leaves, "others wait, and it has not introduced itself")
        try:
            connection.serve()
        finally:
            with self._lock:
                self._connections.pop(number, None)
                self._newcomers.leave(number)

    def _secured(self, sock: socket.socket) -> socket.socket | TlsStream | None:
        if self._tls is None:
            return sock
        context = self._tls()
        return None if context is None else TlsStream(sock, context)

    def _told(self, event: Event) -> None:
        if isinstance(event, Connected):
            with self._lock:
                self._newcomers.leave(event.connection)
        self._deliver(event)


def _listen(address: tuple[str, int]) -> socket.socket:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    return socket.create_server(address, family=family, backlog=_BACKLOG)
