"""A switch that tells of its flows: the bytes that Open vSwitch sends, and one that says them."""

from __future__ import annotations

import socket
import struct
import threading
from pathlib import Path

from ovsnet.cni.flowupdates import MONITOR_XID
from ovsnet.controller.openflow.actions import encode_instructions
from ovsnet.controller.openflow.oxm import encode_match
from ovsnet.flows.flow import Flow
from ovsnet.flows.stamp import stamp_flow

INITIAL, ADDED, REMOVED, MODIFIED, ABBREVIATED, PAUSED, RESUMED = range(7)
MORE = 1
ECHO_REQUEST, ECHO_REPLY, MULTIPART_REPLY = 2, 3, 19


def update(event: int, flow: Flow, cookie: int = 0) -> bytes:
    """A flow update as Open vSwitch sends it (ofp_flow_update_full)."""
    fixed = struct.pack("!BBHHH4xQ", flow.table, 0, 0, 0, flow.priority, cookie)
    body = fixed + encode_match(flow.match) + encode_instructions(flow.actions)
    return struct.pack("!HH", len(body) + 4, event) + body


def stamp_update(event: int, digest: int, serial: int = 0) -> bytes:
    """The same of a stamp."""
    return update(event, stamp_flow(digest, serial), digest)


def pause(event: int) -> bytes:
    """The switch pauses, or is done with that."""
    return struct.pack("!HH4x", 8, event)


def reply(*parts: bytes, kind: int = 16, flags: int = 0) -> bytes:
    """The body of a multipart reply."""
    return struct.pack("!HH4x", kind, flags) + b"".join(parts)


def message(kind: int, body: bytes, version: int = 6, xid: int = 0) -> bytes:
    """A message."""
    return struct.pack("!BBHI", version, kind, len(body) + 8, xid) + body


class ToldSwitch:
    """A management socket, and what is said over it when the test says so."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._listener.settimeout(20)
        self._answering: list[threading.Thread] = []
        self.connection: socket.socket

    def __enter__(self) -> ToldSwitch:
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._answering:
            thread.join()
        self._listener.close()
        if hasattr(self, "connection"):
            self.connection.close()

    def answer(self, *whole: bytes) -> None:
        """Accept a connection in a thread, and say this."""

        def run() -> None:
            self.connection, _ = self._listener.accept()
            self.connection.settimeout(20)
            self.say(*whole)

        thread = threading.Thread(target=run)
        thread.start()
        self._answering.append(thread)

    def serve(self, *parts: bytes) -> None:
        """The same: greet, and tell what there is."""
        there = message(MULTIPART_REPLY, reply(*parts), xid=MONITOR_XID)
        self.answer(message(0, b""), there)

    def say(self, *whole: bytes) -> None:
        self.connection.sendall(b"".join(whole))

    def tell(self, *parts: bytes) -> None:
        self.say(message(MULTIPART_REPLY, reply(*parts)))

    def heard(self, octets: int) -> bytes:
        data = b""
        while len(data) < octets:
            data += self.connection.recv(octets - len(data))
        return data
