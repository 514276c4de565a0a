"""One switch's connection: os-ken's datapath, with reading and sending of our own.

os-ken does the handshake and parses the small messages. Everything that comes in is checked first
(`framing`), and flow dumps are passed on as bytes: os-ken parses some thousand flows a second, and
stumbles over fields that it does not know. Sending never blocks the caller, however much it is.

Over TLS nothing is parsed before the switch has shown a node's certificate; and of any switch
nothing is handed on before it has introduced itself, as the node that its certificate names.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from os_ken.controller import ofp_event
from os_ken.controller.controller import Datapath
from os_ken.controller.handler import MAIN_DISPATCHER
from os_ken.ofproto import ofproto_parser

from ovsnet.controller.openflow import encode, framing
from ovsnet.controller.openflow.events import (
    Connected,
    Disconnected,
    Event,
    FlowsCounted,
    FlowsListed,
)
from ovsnet.controller.openflow.oxm import WireError
from ovsnet.controller.openflow.protocol import Kind, Multipart
from ovsnet.controller.openflow.tls import HandshakeError, TlsStream
from ovsnet.controller.trust.peers import Peer
from ovsnet.controller.trust.refusals import ANOTHER_NODES, TellRefusal

_LOG = logging.getLogger(__name__)

_READ_OCTETS: Final = 1 << 18
_WRITE_OCTETS: Final = 1 << 20
_UNSENT_OCTETS: Final = 1 << 30
_HANDSHAKE_SECONDS: Final = 15.0
_TLS_SECONDS: Final = 10.0
_DESCRIPTION_XID: Final = 0

_INTRODUCTION: Final = frozenset(
    {
        Kind.HELLO,
        Kind.ERROR,
        Kind.ECHO_REQUEST,
        Kind.FEATURES_REPLY,
        Kind.PORT_STATUS,
        Kind.MULTIPART_REPLY,
    }
)
"""Messages of which a switch's introduction consists; before it no others are parsed."""

_INTRODUCTION_PARTS: Final = frozenset({Multipart.DESCRIPTION, Multipart.PORT_DESCRIPTION})

Deliver: TypeAlias = Callable[[Event], None]


class Connection(Datapath):  # type: ignore[misc]  # os-ken has no types
    """One switch's connection. `number` is its own for as long as the process runs."""

    # os-ken warns when its property of this name is used, as its own handlers do.
    ports: dict[int, Any] | None = None

    def __init__(
        self,
        sock: socket.socket | TlsStream,
        address: tuple[str, int],
        number: int,
        deliver: Deliver,
        refused: TellRefusal,
    ) -> None:
        """Over a `TlsStream` the switch has to be the one that its certificate names."""
        super().__init__(sock, address)
        self.is_active: bool = True
        self.number = number
        self.peer = f"{address[0]}:{address[1]}"
        self.features: Any = None
        self.deliver = deliver
        self._refused = refused
        self.introduced = False
        self._certified: Peer | None = None
        self._reason = "the switch hung up"
        self._outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._unsent = 0
        self._lock = threading.Lock()

    def set_state(self, state: str) -> None:
        """As os-ken's; a switch whose ports are known is asked for its description."""
        super().set_state(state)
        if state == MAIN_DISPATCHER:
            self.send(encode.description_request(_DESCRIPTION_XID))

    def introduce(self, connected: Connected) -> None:
        """The switch has said who it is: tell of it, if that is what its certificate says."""
        if not self.is_active:
            return
        certified, named = self._certified, connected.description
        if certified is not None and certified.node != named:
            self.end(f"its certificate is of node {certified.node}, its dp_desc is {named!r}")
            self._refused(ANOTHER_NODES)
            return
        self.introduced = True
        self.deliver(connected)

    def tell(self, event: Event) -> None:
        """Hand on what comes of a switch that has introduced itself."""
        if self.introduced:
            self.deliver(event)

    def send(self, buf: bytes, close_socket: bool = False) -> bool:
        """Queue bytes for sending; never blocks. A switch that takes too few is cut off."""
        with self._lock:
            self._unsent += len(buf)
            too_much = self._unsent > _UNSENT_OCTETS
        if too_much:
            self.end("it does not read what it is sent")
            return False
        self._outgoing.put(bytes(buf))
        if close_socket:
            self._outgoing.put(None)
        return True

    def end(self, reason: str) -> None:
        """Close the connection, for this reason. The first reason given is the one reported."""
        with self._lock:
            if self.is_active:
                self.is_active = False
                self._reason = reason
        self._outgoing.put(None)
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def serve(self) -> None:
        """Speak with the switch until the connection ends. Runs in a thread of its own."""
        sender = threading.Thread(
            target=self._send_loop, name=f"openflow-send-{self.number}", daemon=True
        )
        try:
            if isinstance(self.socket, TlsStream):
                self._certified = self.socket.handshake(_TLS_SECONDS)
            sender.start()
            self.send_msg(self.ofproto_parser.OFPHello(self))
            self._recv_loop()
        except HandshakeError as error:
            self.end(str(error))
            self._refused(error.reason)
        except WireError as error:
            self.end(f"it sent what makes no sense: {error}")
        except Exception as error:
            _LOG.exception("openflow handler failed, peer=%s", self.peer)
            self.end(f"an error of our own: {error!r}")
        finally:
            self.end("the switch hung up")
            if sender.ident is not None:
                sender.join()
            self.socket.close()
            if self.introduced:
                self.deliver(Disconnected(self.number, self._reason))
            else:
                _LOG.warning("handshake not finished, peer=%s: %s", self.peer, self._reason)

    def _recv_loop(self) -> None:
        buffer = bytearray()
        deadline = time.monotonic() + _HANDSHAKE_SECONDS
        while self.is_active:
            if not self.introduced and time.monotonic() > deadline:
                self.end(f"no handshake within {_HANDSHAKE_SECONDS:g} s")
                return
            if self._certified is not None and time.time() > self._certified.until:
                self.end("its certificate has run out; with a new one it may come back")
                return
            try:
                received = self.socket.recv(_READ_OCTETS)
            except TimeoutError:
                continue
            except OSError as error:
                self.end(f"reading failed: {error}")
                return
            if not received:
                return
            buffer += received
            for message in framing.messages(buffer):
                if framing.check(message):
                    self._receive(message)

    def _receive(self, message: framing.Message) -> None:
        if not self.introduced and message.kind not in _INTRODUCTION:
            return
        if message.kind == Kind.MULTIPART_REPLY:
            part = framing.part(message.data)
            if not self.introduced and part.kind not in _INTRODUCTION_PARTS:
                return
            if part.kind == Multipart.FLOW_DESCRIPTION:
                self.deliver(FlowsListed(self.number, message.xid, part.body, part.more))
                return
            if part.kind == Multipart.TABLE:
                self.deliver(FlowsCounted(self.number, message.xid, part.body))
                return
        parsed = ofproto_parser.msg(
            self, message.version, message.kind, len(message.data), message.xid, message.data
        )
        if parsed is None:
            raise WireError(f"a message of type {message.kind} that os-ken cannot parse")
        event = ofp_event.ofp_msg_to_ev(parsed)
        for handler in list(self.ofp_brick.get_handlers(event, self.state)):
            handler(event)

    def _send_loop(self) -> None:
        while (data := self._outgoing.get()) is not None:
            view = memoryview(data)
            while view and self.is_active:
                try:
                    sent = self.socket.send(view[:_WRITE_OCTETS])
                except TimeoutError:
                    continue
                except OSError as error:
                    self.end(f"writing failed: {error}")
                    return
                view = view[sent:]
            with self._lock:
                self._unsent -= len(data)
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)
