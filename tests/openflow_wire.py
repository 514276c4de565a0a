"""A bare OpenFlow 1.5 connection to a bridge's management socket, for tests of the codec."""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import Self

from ovsnet.controller.openflow import decode, encode
from ovsnet.controller.openflow.protocol import BundleControl, Kind, Multipart

_HEADER = struct.Struct("!BBHI")
XID = 77


class SwitchRefusedError(Exception):
    """The switch answered with an error; `kind` and `code` are OpenFlow's."""

    def __init__(self, kind: int, code: int, data: bytes) -> None:
        super().__init__(f"error {kind}/{code} for {data.hex()}")
        self.kind, self.code, self.data = kind, code, data


class Wire:
    """Sends messages and waits for their answers, one at a time."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(60)
        self._socket.connect(str(path))
        self._buffer = bytearray()
        self._socket.sendall(_HEADER.pack(6, Kind.HELLO, 8, 1))
        assert self._message()[0] == Kind.HELLO

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def bundle(self, messages: bytes) -> None:
        """One bundle of these messages, sent in one go, committed."""
        self._socket.sendall(encode.filled_bundle(XID, [messages]))
        self._answer(Kind.BUNDLE_CONTROL)
        self._answer(Kind.BUNDLE_CONTROL)
        self._socket.sendall(encode.bundle_control(BundleControl.COMMIT_REQUEST, XID))
        self._answer(Kind.BUNDLE_CONTROL)

    def dump(self) -> list[bytes]:
        """The bodies of a dump of all flows."""
        return self._multipart(encode.flow_dump(XID), Multipart.FLOW_DESCRIPTION)

    def request(self, message: bytes, expected: Kind) -> bytes:
        """The body of the answer to one message."""
        self._socket.sendall(message)
        return self._answer(expected)

    def count(self) -> int:
        """How many flows the switch counts."""
        (body,) = self._multipart(encode.flow_counts(XID), Multipart.TABLE)
        return sum(decode.flow_counts(body).values())

    def _multipart(self, request: bytes, expected: Multipart) -> list[bytes]:
        self._socket.sendall(request)
        parts = []
        more = 1
        while more:
            body = self._answer(Kind.MULTIPART_REPLY)
            kind, more = struct.unpack_from("!HH", body)
            assert kind == expected
            parts.append(body[8:])
        return parts

    def _answer(self, expected: Kind) -> bytes:
        kind, body = self._message()
        if kind == Kind.ERROR:
            raise SwitchRefusedError(*struct.unpack_from("!HH", body), body[4:])
        assert kind == expected, (kind, body)
        return body

    def _message(self) -> tuple[int, bytes]:
        while True:
            if len(self._buffer) >= 8:
                _, kind, length, xid = _HEADER.unpack_from(self._buffer)
                if len(self._buffer) >= length:
                    body = bytes(self._buffer[8:length])
                    del self._buffer[:length]
                    if kind == Kind.ECHO_REQUEST:
                        self._socket.sendall(_HEADER.pack(6, Kind.ECHO_REPLY, length, xid) + body)
                        continue
                    return kind, body
            got = self._socket.recv(1 << 18)
            if not got:
                raise ConnectionError("the switch hung up")
            self._buffer += got
