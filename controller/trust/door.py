"""Accepts connections for an HTTP server, over TLS.

Who shows no certificate can ask for one, but stays for seconds only, and there is place for only
so many (`newcomers`). What a connection is secured with is asked for each of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

from ovsnet import logs
from ovsnet.controller.trust.newcomers import Newcomers
from ovsnet.controller.trust.refusals import TellRefusal, reason_of

_log = logs.get("trust")

_HANDSHAKE_SECONDS: Final = 10.0
_NEWCOMER_SECONDS: Final = 30.0
_MOST_NEWCOMERS: Final = 1024
_PAUSE_SECONDS: Final = 0.1
_CERTIFICATE: Final = "peercert"

Tls = Callable[[], ssl.SSLContext | None]
"""What a new connection is secured with; None while there is nothing yet."""


def certificate_of(transport: asyncio.BaseTransport | None) -> Any:
    """The certificate that the other side of a connection has shown, as `ssl` tells it, if any."""
    return None if transport is None else transport.get_extra_info(_CERTIFICATE)


class Door:
    """Takes from a listening socket, which must not block; `protocol` makes what serves one.
    `refused` is called for each whose handshake fails.
    """

    def __init__(
        self,
        listening: socket.socket,
        tls: Tls,
        protocol: Callable[[], asyncio.BaseProtocol],
        refused: TellRefusal,
        most: int = _MOST_NEWCOMERS,
        handshake_seconds: float = _HANDSHAKE_SECONDS,
        newcomer_seconds: float = _NEWCOMER_SECONDS,
    ) -> None:
        self._listening = listening
        self._tls = tls
        self._protocol = protocol
        self._refused = refused
        self._newcomers: Newcomers[socket.socket] = Newcomers(most)
        self._handshake_seconds = handshake_seconds
        self._newcomer_seconds = newcomer_seconds
        self._admissions: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Accept until this is cancelled; connections that were let in go on."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    sock, address = await loop.sock_accept(self._listening)
                except OSError as error:
                    # No descriptor is left, most likely; it would fail again at once.
                    _log.error("accepting a connection failed", reason=error)
                    await asyncio.sleep(_PAUSE_SECONDS)
                    continue
                admission = loop.create_task(self._admit(sock, address[0]))
                self._admissions.add(admission)
                admission.add_done_callback(self._admissions.discard)
        finally:
            for admission in list(self._admissions):
                admission.cancel()

    async def _admit(self, sock: socket.socket, address: str) -> None:
        leaves = self._newcomers.enter(sock, address)
        if leaves is not None:
            with contextlib.suppress(OSError):
                leaves.shutdown(socket.SHUT_RDWR)
        try:
            await self._secure(sock, address)
        finally:
            self._newcomers.leave(sock)

    async def _secure(self, sock: socket.socket, address: str) -> None:
        context = self._tls()
        if context is None:
            sock.close()
            return
        try:
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
                self._protocol,
                sock,
                ssl=context,
                ssl_handshake_timeout=self._handshake_seconds,
            )
        except OSError as error:
            sock.close()
            _log.debug("TLS handshake failed", peer=address, reason=error)
            self._refused(reason_of(error))
            return
        if not certificate_of(transport):
            await self._bear(transport)

    async def _bear(self, transport: asyncio.BaseTransport) -> None:
        """Wait until one without a certificate has gone, or end it."""
        left = self._newcomer_seconds
        while left > 0 and not transport.is_closing():
            await asyncio.sleep(min(left, _PAUSE_SECONDS))
            left -= _PAUSE_SECONDS
        # To abort one that is closed is an error over TLS (Python 3.11).
        if isinstance(transport, asyncio.Transport) and not transport.is_closing():
            transport.abort()
