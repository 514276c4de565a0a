"""Who answers in the tests of services: in pods, in nodes' own networks and outside.

An answer says who gives it and whom it sees, as the sandbox's own responders do: JSON with `pod`
and `client`, and the `port` that was called. TCP speaks HTTP, and UDP gives one datagram back.

Whoever says a number, in a line or datagram of its own, gets the name and the number and may go on.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
import threading
from collections.abc import Callable, Iterable, Iterator

from places import Place

_HEADER = b"HTTP/1.0 200 OK\r\n\r\n"
_LONGEST = 65535
_POLL_SECONDS = 0.2


class Answerers:
    """Answers on every socket that `open` has made, from one thread, as long as this is open."""

    def __init__(self) -> None:
        self._waiting = selectors.DefaultSelector()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def open(self, name: str, place: Place, ports: Iterable[int]) -> None:
        """Answer by this name on these ports of both of a place's addresses, by TCP and UDP.

        A node has several addresses. Sockets are bound to the one that is called, so that answers
        come from there.
        """
        numbers = tuple(ports)

        def make() -> list[socket.socket]:
            return [
                bound(place.address(version), version, kind, port)
                for version in (4, 6)
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)
                for port in numbers
            ]

        for made in place.within(make):
            made.setblocking(False)
            if made.type is socket.SOCK_STREAM:
                made.listen(512)
                self._when_readable(made, lambda sock=made: self._accept(name, sock))
            else:
                self._when_readable(made, lambda sock=made: _echo(name, sock))

    def open_everywhere(self, place: Place, port: int) -> None:
        """Answer on this TCP port of whatever address of the place is called, by its name."""

        def make() -> socket.socket:
            return bound("", 4, socket.SOCK_STREAM, port)

        made = place.within(make)
        made.setblocking(False)
        made.listen(512)
        self._when_readable(made, lambda: self._accept("", made))

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        for key in tuple(self._waiting.get_map().values()):
            self._forget(key.fileobj)  # type: ignore[arg-type]
        self._waiting.close()

    def _run(self) -> None:
        while not self._ended.is_set():
            for key, _ in self._waiting.select(_POLL_SECONDS):
                # Whoever hung up, or was told that nobody is there, does not concern the others.
                with contextlib.suppress(OSError):
                    key.data()

    def _when_readable(self, sock: socket.socket, work: Callable[[], None]) -> None:
        self._waiting.register(sock, selectors.EVENT_READ, work)

    def _forget(self, sock: socket.socket) -> None:
        self._waiting.unregister(sock)
        sock.close()

    def _accept(self, name: str, listening: socket.socket) -> None:
        taken, client = listening.accept()
        taken.setblocking(False)
        said = name or taken.getsockname()[0]

        def asked() -> None:
            try:
                got = taken.recv(_LONGEST)
                if got[:1].isdigit():
                    lines = got.split()
                    taken.sendall(b"".join(b"%s %s\n" % (said.encode(), n) for n in lines))
                    return
                if got:
                    taken.sendall(_HEADER + _answer(said, client, listening))
            except BaseException:
                self._forget(taken)
                raise
            self._forget(taken)

        self._when_readable(taken, asked)


def _echo(name: str, sock: socket.socket) -> None:
    got, client = sock.recvfrom(_LONGEST)
    if got.isdigit():
        sock.sendto(b"%s %s" % (name.encode(), got), client)
    else:
        sock.sendto(_answer(name, client, sock), client)


def _answer(name: str, client: tuple[str, int], called: socket.socket) -> bytes:
    address, port = client[:2]
    seen = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    return json.dumps({"pod": name, "client": seen, "port": called.getsockname()[1]}).encode()


def bound(address: str, version: int, kind: socket.SocketKind, port: int) -> socket.socket:
    """A socket on a port of an address, made in the namespace of the calling thread."""
    made = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, kind)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
    except BaseException:
        made.close()
        raise
    return made


@contextlib.contextmanager
def answerers() -> Iterator[Answerers]:
    made = Answerers()
    try:
        yield made
    finally:
        made.close()
