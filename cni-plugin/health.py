"""Answers load balancers that ask whether a service has an endpoint on this node.

They ask a service's `healthCheckNodePort` by HTTP. The switch sends such a question to the
gateway's address: to one port if there is an endpoint here, to another if there is none. So the
port alone decides the answer, and nothing of the request is looked at. As kube-proxy has it, 200 or
503 comes with a few words of JSON (pkg/proxy/healthcheck/service_health.go); which service was
asked about and how many endpoints it has is not known here.

The sockets take only what comes by the gateway's device or from the node itself. Pods can ask
there, too, so there is a limit to what is dealt with at once, and the slowest make room.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import NamedTuple

from ovsnet import logs, names
from ovsnet.cni.links import Address
from ovsnet.cni.ranges import Addresses

_log = logs.get("health")

MOST = 32
"""So many questions are dealt with at once."""

_SECONDS = 5.0
"""So long an asker may keep silent."""

_BACKLOG = 128
_PAUSE = 0.5


class _Answer(BaseHTTPRequestHandler):
    """Answers one question, whatever it is."""

    timeout = _SECONDS
    status: HTTPStatus
    here: bool

    def do_GET(self) -> None:
        """Say whether there is an endpoint here."""
        self.wfile.write(self._head())

    def do_HEAD(self) -> None:
        """The same without the words."""
        self._head()

    def _head(self) -> bytes:
        """Send the head; returns the body that belongs to it."""
        said = {"hasLocalEndpoints": self.here, "serviceProxyHealthy": True}
        body = json.dumps(said).encode() + b"\n"
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return body

    def version_string(self) -> str:
        """Who answers."""
        return "ovsnet"

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: whoever asks could fill the log."""


class _Yes(_Answer):
    status = HTTPStatus.OK
    here = True


class _No(_Answer):
    status = HTTPStatus.SERVICE_UNAVAILABLE
    here = False


_ANSWERS: dict[int, type[_Answer]] = {names.HEALTHY_PORT: _Yes, names.UNHEALTHY_PORT: _No}


class _Desk:
    """Where questions are dealt with, each in a thread of its own, at most `MOST` of them."""

    def __init__(self) -> None:
        self._slots = threading.BoundedSemaphore(MOST)
        self._lock = threading.Lock()
        self._open: dict[socket.socket, None] = {}

    def take(self, connection: socket.socket, asker: object, answer: type[_Answer]) -> None:
        """Begin to deal with a question. If there is no room, the one that has been there longest
        goes first.
        """
        if not self._slots.acquire(blocking=False):
            with self._lock:
                _hang_up(list(self._open)[:1])
            self._slots.acquire()
        with self._lock:
            self._open[connection] = None
        threading.Thread(
            target=self._deal, args=(connection, asker, answer), name="health", daemon=True
        ).start()

    def _deal(self, connection: socket.socket, asker: object, answer: type[_Answer]) -> None:
        try:
            with connection:
                # It is of no server, and does not miss one.
                answer(connection, asker, None)  # type: ignore[arg-type]
        except OSError as error:
            _log.debug("a question was given up", reason=error)
        finally:
            with self._lock:
                del self._open[connection]
            self._slots.release()

    def close(self) -> None:
        """Give up what is being dealt with."""
        with self._lock:
            _hang_up(self._open)


def _hang_up(connections: Iterable[socket.socket]) -> None:
    for connection in connections:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


class _Place(NamedTuple):
    """Where questions come in. A device that is made anew has another index."""

    device: int
    address: Address
    port: int


class _Listener:
    """A listening socket and the thread that waits for questions on it."""

    def __init__(self, place: _Place, desk: _Desk) -> None:
        """Listen.

        Raises:
            OSError: the address is not there, or the port is taken.
        """
        self._desk = desk
        self._answer = _ANSWERS[place.port]
        family = socket.AF_INET if place.address.version == 4 else socket.AF_INET6
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            device = names.GATEWAY_PORT.encode()
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
            self._socket.bind((str(place.address), place.port))
            self._socket.listen(_BACKLOG)
        except BaseException:
            # Whatever it is goes on its way; the caller has nothing yet that could be closed.
            self._socket.close()
            raise
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="health", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, asker = self._socket.accept()
            except OSError as error:
                # It is stopping; or the agent is out of descriptors, which passes (accept(2)).
                _log.debug("a question was not taken", reason=error)
                self._stopping.wait(_PAUSE)
                continue
            self._desk.take(connection, asker, self._answer)

    def stop(self) -> None:
        """Listen no more."""
        self._stopping.set()
        _hang_up([self._socket])
        self._thread.join()
        self._socket.close()


class Health:
    """Listens on the gateway's addresses. For one thread."""

    def __init__(self) -> None:
        self._desk = _Desk()
        self._listeners: dict[_Place, _Listener] = {}
        self._faults: dict[_Place, str] = {}

    def ensure(self, gateway: Addresses) -> None:
        """Listen on these addresses and no others. Where that fails there is a warning, once, and
        it is tried again the next time.
        """
        wanted = frozenset(_places(gateway))
        for place in self._listeners.keys() - wanted:
            self._listeners.pop(place).stop()
        self._faults = {place: fault for place, fault in self._faults.items() if place in wanted}
        for place in sorted(wanted - self._listeners.keys(), key=str):
            try:
                self._listeners[place] = _Listener(place, self._desk)
            except OSError as error:
                self._failed(place, str(error))
            else:
                self._faults.pop(place, None)

    def _failed(self, place: _Place, fault: str) -> None:
        if self._faults.get(place) != fault:
            _log.warning(
                "health checks of services are not answered",
                address=place.address,
                port=place.port,
                reason=fault,
            )
        self._faults[place] = fault

    def stop(self) -> None:
        """Listen no more, and give up what is under way."""
        for listener in self._listeners.values():
            listener.stop()
        self._listeners.clear()
        self._desk.close()


def _places(gateway: Addresses) -> Iterator[_Place]:
    try:
        device = socket.if_nametoindex(names.GATEWAY_PORT)
    except OSError:
        # It was there just now, and will be again.
        return
    for address in (gateway.ipv4, gateway.ipv6):
        if address is not None:
            yield from (_Place(device, address, port) for port in _ANSWERS)
