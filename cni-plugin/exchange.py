"""A connection to one controller's listener for agents, kept open between requests (HTTP/1.1)."""

from __future__ import annotations

import contextlib
import json
import socket
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit


class ExchangeError(Exception):
    """The controller cannot be reached, or refuses what it was sent; the text has the reason."""


class Exchange:
    """Requests to one controller, one at a time; for one thread, but for `end`."""

    def __init__(self, url: str, seconds: float = 5.0) -> None:
        """`url` as in http://192.0.2.1:9096; `seconds` is how long an answer may take."""
        split = urlsplit(url)
        assert split.hostname is not None
        self._connection = HTTPConnection(split.hostname, split.port, timeout=seconds)
        self._base = split.path.rstrip("/")
        self._ended = False

    def post(self, path: str, document: object) -> None:
        """Send a document.

        Raises:
            ExchangeError: it was not taken.
        """
        self._ask("POST", path, json.dumps(document).encode())

    def get(self, path: str) -> Any:
        """The document that is served there; None if there is none (204).

        Raises:
            ExchangeError: it is not to be had.
        """
        body = self._ask("GET", path)
        try:
            return json.loads(body) if body else None
        except ValueError as error:
            raise ExchangeError(f"answers what is no JSON: {error}") from None

    def end(self) -> None:
        """Make the request that is under way fail, and every later one. From any thread."""
        # First the mark, then the socket: `_exchange` looks at the mark once it has a socket.
        self._ended = True
        sock = self._connection.sock
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        kept = self._connection.sock is not None
        try:
            status, answer = self._exchange(method, path, body)
        except (OSError, HTTPException) as error:
            self._connection.close()
            if not kept or self._ended or isinstance(error, TimeoutError):
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
        headers = {"Content-Type": "application/json"} if body else {}
        self._connection.request(method, self._base + path, body, headers)
        if self._ended:
            raise ConnectionAbortedError("the agent is stopping")
        answer = self._connection.getresponse()
        return answer.status, answer.read()


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
