"""A TLS session with a switch, read in one thread and written in another.

OpenSSL does not let two threads into one session at once, and Python does not keep them out. So
the socket does not block, every call into the session is made under a lock, and whoever has to
wait does so outside of it.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

from ovsnet.controller.trust.peers import Peer, peer_of
from ovsnet.controller.trust.refusals import NO_NODES, openssl_words, reason_of

_Result = TypeVar("_Result")


class HandshakeError(Exception):
    """The other side has not shown that it is a node; the message says what was wrong, `reason` the
    same in the words that a metric has.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class TlsStream:
    """The server's side, with those methods of a socket that a connection uses.

    After `settimeout`, `recv` and `send` raise TimeoutError when nothing could be done for so long.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        """Takes the socket over; nothing is sent or read before `handshake`."""
        sock.setblocking(False)
        self._tls: Final = context.wrap_socket(
            sock, server_side=True, do_handshake_on_connect=False
        )
        self._lock = threading.Lock()
        self._timeout: float | None = None

    def handshake(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> Peer:
        """Have the other side prove which node it is, within so many seconds.

        Raises:
            HandshakeError: it did not.
        """
        try:
            self._do(self._tls.do_handshake, clock() + seconds, clock)
            peer = peer_of(self._tls.getpeercert())
        except TimeoutError as error:
            message = f"no TLS handshake within {seconds:g} s"
            raise HandshakeError(message, reason_of(error)) from None
        except (OSError, ValueError) as error:
            message = f"TLS handshake failed: {openssl_words(error) or error}"
            raise HandshakeError(message, reason_of(error)) from None
        if peer is None:
            raise HandshakeError("its certificate is no node's", NO_NODES)
        return peer

    # `read` and `write`, not `recv` and `send`, which fall back to plain text once a session has
    # ended, and `shutdown` of the plain socket, as that of the secure one ends the session.

    def recv(self, octets: int) -> bytes:
        """As a socket's; empty at the end."""
        return self._do(lambda: self._tls.read(octets), self._until())

    def send(self, data: memoryview) -> int:
        """As a socket's. What could not be sent must be offered again, unchanged."""
        return self._do(lambda: self._tls.write(data), self._until())

    def shutdown(self, how: int) -> None:
        """As a socket's: the other thread's `recv` ends."""
        socket.socket.shutdown(self._tls, how)

    def close(self) -> None:
        """As a socket's; no other thread may use it any more."""
        self._tls.close()

    def settimeout(self, seconds: float | None) -> None:
        """As a socket's."""
        self._timeout = seconds

    def setsockopt(self, level: int, option: int, value: int) -> None:
        """As a socket's."""
        self._tls.setsockopt(level, option, value)

    def _until(self) -> float | None:
        return None if self._timeout is None else time.monotonic() + self._timeout

    def _do(
        self,
        step: Callable[[], _Result],
        until: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> _Result:
        """Try a step until it can be done.

        Raises:
            TimeoutError: it could not by `until`.
            OSError: it failed.
        """
        while True:
            try:
                with self._lock:
                    return step()
            except ssl.SSLWantReadError:
                wanted = select.POLLIN
            except ssl.SSLWantWriteError:
                wanted = select.POLLOUT
            left = None if until is None else until - clock()
            if left is not None and left <= 0:
                raise TimeoutError
            poll = select.poll()
            poll.register(self._tls, wanted)
            poll.poll(None if left is None else left * 1000)
