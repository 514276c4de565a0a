"""Keeps the node's certificate: gets it from a controller, and a new one in good time.

The controller is told by the token that the kubelet gives the agent's pod which node this is. What
the controller itself must show follows from the authorities' ConfigMap in the API. Running
connections outlive an exchange of certificates; new ones use what the files have.
"""

from __future__ import annotations

import contextlib
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from ovsnet import logs, names
from ovsnet.cni import sslrow
from ovsnet.cni.credentials import Files, new_request, objection
from ovsnet.cni.exchange import Exchange, ExchangeError
from ovsnet.cni.ovsdb import Database, DatabaseUnreachable

_log = logs.get("identity")

_AGAIN = 1.0
_AGAIN_MOST = 15.0
_LOOK = 5.0


class Unidentified(Exception):  # noqa: N818
    """There is no certificate to be had now; the text says why."""


def installer(database: Database) -> Callable[[Files], None]:
    """Has Open vSwitch use the files."""

    def install(files: Files) -> None:
        try:
            if sslrow.ensure(database, files):
                _log.info("Open vSwitch told of the node's certificate", path=files.node)
        except DatabaseUnreachable as error:
            raise Unidentified(f"Open vSwitch's database does not answer: {error}") from None
        except sslrow.Taken as error:
            raise Unidentified(str(error)) from None

    return install


class Following(Protocol):
    """Follows the authorities' ConfigMap, from `start` to `stop`; `ovsnet.api.Watch` does."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """End."""


Follow = Callable[[Callable[[Mapping[str, str] | None], None]], Following]
"""Makes what follows the ConfigMap and hands on its data, or None while there is none."""


class Identity:
    """The thread that keeps it. `clock` gives seconds since 1970."""

    def __init__(
        self,
        node: str,
        files: Files,
        token: Path,
        controllers: Callable[[], Sequence[str]],
        follow: Follow,
        install: Callable[[Files], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`controllers` are the URLs of their listeners for agents, any of which will do.

        `install` has Open vSwitch use the files once they are there; it may raise Unidentified.
        """
        self._node = node
        self._files = files
        self._token = token
        self._controllers = controllers
        self._install = install
        self._clock = clock
        self._trusted = files.read(files.trusted)
        self._context: ssl.SSLContext | None = None
        self._made_of = ("", "")
        self._failures = 0
        self._reason = ""
        self._wake = threading.Event()
        self._stopping = False
        self._following = follow(self._heard)
        self._thread = threading.Thread(target=self._run, name="identity", daemon=True)

    def context(self) -> ssl.SSLContext | None:
        """TLS with a controller, as this node; None while there is no certificate."""
        return self._context

    def start(self) -> None:
        """Begin."""
        self._following.start()
        self._thread.start()

    def stop(self) -> None:
        """End after the present round; the files stay."""
        self._stopping = True
        self._following.stop()
        self._wake.set()
        self._thread.join()

    def look(self) -> None:
        """There is news: try now what could not be done before. From any thread."""
        self._failures = 0
        self._wake.set()

    def _heard(self, data: Mapping[str, str] | None) -> None:
        """The ConfigMap. One that is missing or empty changes nothing: it will be back."""
        trusted = (data or {}).get(names.AUTHORITY_KEY, "")
        if trusted and trusted != self._trusted:
            self._trusted = trusted
            self.look()

    def _run(self) -> None:
        while not self._stopping:
            try:
                self.round()
                self._failures, self._reason, pause = 0, "", _LOOK
            except (Unidentified, OSError, ssl.SSLError) as error:
                pause = self._failed(str(error))
            except Exception as error:
                _log.exception("keeping the node's certificate failed")
                pause = self._failed(repr(error))
            self._wake.wait(pause)
            self._wake.clear()

    def _failed(self, reason: str) -> float:
        if reason != self._reason:
            _log.warning("no certificate for the node", node=self._node, reason=reason)
        self._reason = reason
        self._failures += 1
        return float(min(_AGAIN * 2.0 ** min(self._failures - 1, 10), _AGAIN_MOST))

    def round(self) -> None:
        """Write down whom to trust, and get a certificate if a new one is due.

        Raises:
            Unidentified: it is due, and not to be had.
            OSError: a file cannot be read or written.
        """
        trusted, files = self._trusted, self._files
        if not trusted:
            raise Unidentified("the ConfigMap of the authorities is not there, or cannot be read")
        if files.read(files.trusted) != trusted:
            files.write(files.trusted, trusted)
            _log.info("certificate authorities written", path=files.trusted)
        credentials = files.read(files.node)
        due = objection(credentials, self._node, trusted, self._now())
        if due is not None:
            # What is there may still do until a new one is had.
            with contextlib.suppress(ssl.SSLError):
                self._use(credentials, trusted)
            credentials = self._certified(trusted)
            files.write(files.node, credentials)
            _log.info("node's certificate written", node=self._node, reason=due, path=files.node)
        self._use(credentials, trusted)
        self._install(files)

    def _use(self, credentials: str, trusted: str) -> None:
        if credentials and self._made_of != (credentials, trusted):
            self._context = client_context(trusted, self._files.node)
            self._made_of = (credentials, trusted)

    def _certified(self, trusted: str) -> str:
        """A new key and its certificate, from whichever controller gives it."""
        token = self._token.read_text().strip()
        key, request = new_request()
        reasons = []
        for url in self._controllers():
            try:
                answer = _ask(url, client_context(trusted), token, request)
            except ExchangeError as error:
                reasons.append(f"{url} {error}")
                continue
            credentials = key + str(answer.get("certificate", ""))
            wrong = objection(credentials, self._node, trusted, self._now())
            if wrong is None:
                return credentials
            reasons.append(f"{url} gave a certificate that is of no use: {wrong}")
        raise Unidentified("; ".join(reasons) or "no controller is known")

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


def client_context(trusted: str, credentials: Path | None = None) -> ssl.SSLContext:
    """TLS with a controller: what it shows must be a controller's, whatever its address.

    Raises:
        ssl.SSLError, OSError: what should be a certificate or key is none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=trusted)
    if credentials is not None:
        context.load_cert_chain(credentials)
    return context


def _ask(url: str, context: ssl.SSLContext, token: str, request: str) -> Any:
    exchange = Exchange(url, tls=lambda: context)
    try:
        return exchange.post("/certificate", {"token": token, "request": request}) or {}
    finally:
        exchange.close()
