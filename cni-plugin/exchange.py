"""A connection to one controller's listener for agents, kept open between requests (HTTP/1.1).

Over HTTPS the controller must show a controller's certificate, whatever its address is.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

from ovsnet import names

Tls = Callable[[], ssl.SSLContext | None]
"""What HTTPS is spoken with now; None while there is no certificate."""


class ExchangeError(Exception):
    """The controller cannot be reached, or refuses what it was sent; the text has the reason."""


class Exchange:
    """Requests to one controller, one at a time; for one thread, but for `end`."""

    def __init__(self, url: str, seconds: float = 5.0, tls: Tls | None = None) -> None:
        """`url` as in http://192.0.2.1:9096; `seconds` is how long an answer may take.

        An https URL needs `tls`.
        """
        split = urlsplit(url)
        assert split.hostname is not None
        self._tls = tls if split.scheme == "https" else None
        assert (split.scheme == "https") == (self._tls is not None)
        self._connection = _Connection(split.hostname, split.port, seconds)
        self._base = split.path.rstrip("/")

    def post(self, path: str, document: object) -> Any:
        """Send a document; the answer, as `get` has it.

        Raises:
            ExchangeError: it was not taken.
        """
        return _read(self._ask("POST", path, json.dumps(document).encode()))

    def get(self, path: str) -> Any:
        """The document that is served there; None if there is none (204).

        Raises:
            ExchangeError: it is not to be had.
        """
        return _read(self._ask("GET", path))

    def end(self) -> None:
        """Make the request that is under way fail, and every later one. From any thread."""
        self._connection.end()

    def close(self) -> None:
        """Give the connection up; the next request makes a new one."""
        self._connection.close()

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        kept = self._connection.sock is not None
        try:
            status, answer = self._exchange(method, path, body)
        except (OSError, HTTPException) as error:
            self._connection.close()
            if not kept or self._connection.ended or isinstance(error, TimeoutError):
                raise ExchangeError(f"cannot be reached: {_words(error)}") from None
            # The controller may have closed a connection that was not used for long. Everything
            # that an agent sends may be sent twice.
            try:
                status, answer = self._exchange(method, path, body)
            except (OSError, HTTPException) as again:
                self._connection.close()
                raise ExchangeError(f"cannot be reached: {_words(again)}") from None
        if status >= 300:
            raise ExchangeError(f"answers {status}: {answer.decode(errors='replace').strip()}")
        return answer

    def _exchange(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        if self._tls is not None:
            context = self._tls()
            if context is None:
                raise ConnectionError("this node has no certificate yet")
            self._connection.secure(context)
        headers = {"Content-Type": "application/json"} if body else {}
        self._connection.request(method, self._base + path, body, headers)
        if self._connection.ended:
            raise ConnectionAbortedError("the agent is stopping")
        answer = self._connection.getresponse()
        return answer.status, answer.read()


class _Connection(HTTPConnection):
    """A connection that another thread can end."""

    def __init__(self, host: str, port: int | None, seconds: float) -> None:
        super().__init__(host, port, timeout=seconds)
        self.ended = False
        self._context: ssl.SSLContext | None = None

    def secure(self, context: ssl.SSLContext) -> None:
        """Speak TLS with this from now on; a connection that was made with another is closed."""
        if context is not self._context:
            self.close()
        self._context = context

    def connect(self) -> None:
        """As the class above has it; then TLS, with the host name that all controllers have."""
        super().connect()
        if self._context is None:
            return
        host, plain = names.CONTROLLER_HOST, self.sock
        secured = self._context.wrap_socket(
            plain, do_handshake_on_connect=False, server_hostname=host
        )
        self.sock = secured
        # `end` has taken hold of one socket or the other, unless it had set its mark before.
        if self.ended:
            raise ConnectionAbortedError("the agent is stopping")
        secured.do_handshake()

    def end(self) -> None:
        """Make the request that is under way fail, and every later one. From any thread."""
        # First the mark, then the socket: who makes one looks at the mark afterwards.
        self.ended = True
        sock = self.sock
        if sock is not None:
            with contextlib.suppress(OSError):
                # Not that of the TLS session, which would go on in plain text.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _read(body: bytes) -> Any:
    try:
        return json.loads(body) if body else None
    except ValueError as error:
        raise ExchangeError(f"answers what is no JSON: {error}") from None


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
