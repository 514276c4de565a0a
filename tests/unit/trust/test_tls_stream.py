"""A TLS session that one thread reads and another writes."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time

import pytest
from trust_authority import Controllers, NodeFiles, node_credentials

from ovsnet.cni.identity import client_context
from ovsnet.controller.openflow.tls import HandshakeError, TlsStream
from ovsnet.names import CONTROLLER_HOST

MEGABYTE = 1 << 20


@pytest.fixture
def controllers():
    return Controllers()


@pytest.fixture
def client(controllers, tmp_path):
    files = NodeFiles(tmp_path)
    files.write(files.node, node_credentials(controllers.held, "node-1"))
    return client_context(controllers.held.bundle, files.node)


@contextlib.contextmanager
def pair(controllers, client):
    """A stream and the socket at its other end, after the handshake."""
    ours, theirs = socket.socketpair()
    stream = TlsStream(ours, controllers.switches())
    found = []
    thread = threading.Thread(target=lambda: found.append(stream.handshake(20.0)))
    thread.start()
    with client.wrap_socket(theirs, server_hostname=CONTROLLER_HOST) as other:
        thread.join()
        assert found[0].node == "node-1"
        other.settimeout(60)
        yield stream, other
    stream.close()


def pattern(octets, seed):
    return bytes((i * seed) & 0xFF for i in range(256)) * (octets // 256)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_directions_at_once(controllers, client, version):
    """Each side sends 32 MB in its own thread while it reads as much in another."""
    client.maximum_version = version
    out, back = pattern(32 * MEGABYTE, 3), pattern(32 * MEGABYTE, 7)
    with pair(controllers, client) as (stream, other):
        got = bytearray()

        def write():
            view = memoryview(out)
            while view:
                view = view[stream.send(view[:MEGABYTE]) :]

        def read():
            while len(got) < len(back):
                got.extend(stream.recv(1 << 18))

        # The other side is one thread by itself: Python would not keep two out of a session.
        other.setblocking(False)
        seen, left = bytearray(), memoryview(back)
        threads = [threading.Thread(target=work) for work in (write, read)]
        for thread in threads:
            thread.start()
        while left or len(seen) < len(out):
            with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                seen.extend(other.recv(1 << 18))
            if left:
                with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    left = left[other.send(left[:65536]) :]
        for thread in threads:
            thread.join(60)
    assert seen == out
    assert got == back


def test_a_stream_that_nothing_comes_from_times_out_and_one_that_ends_is_empty(controllers, client):
    with pair(controllers, client) as (stream, other):
        stream.settimeout(0.05)
        with pytest.raises(TimeoutError):
            stream.recv(10)
        other.sendall(b"abc")
        stream.settimeout(20)
        assert stream.recv(10) == b"abc"
        other.close()
        assert stream.recv(10) == b""


def test_one_that_takes_nothing_more_times_out(controllers, client):
    with pair(controllers, client) as (stream, _):
        stream.settimeout(0.05)
        data = memoryview(bytes(1 << 16))

        def fill():
            while True:
                stream.send(data)

        with pytest.raises(TimeoutError):
            fill()


def test_another_thread_can_end_it(controllers, client):
    with pair(controllers, client) as (stream, _):
        ended = threading.Event()

        def read():
            with contextlib.suppress(OSError):
                assert stream.recv(10) == b""
            ended.set()

        thread = threading.Thread(target=read)
        thread.start()
        stream.shutdown(socket.SHUT_RDWR)
        assert ended.wait(20)
        thread.join()


def test_what_comes_in_plain_text_after_the_end_of_a_session_is_not_taken(controllers, client):
    """As somebody on the way may add it, who has no part in the session."""
    with pair(controllers, client) as (stream, other):
        stream.settimeout(20)
        other.setblocking(False)
        with contextlib.suppress(ssl.SSLWantReadError):
            other.unwrap()
        stream.shutdown(socket.SHUT_WR)
        socket.socket.sendall(other, b"\x06\x00\x00\x08\x00\x00\x00\x01")
        for _ in range(3):
            try:
                assert stream.recv(100) == b""
            except (OSError, ValueError):
                continue


class Session:
    """A session into which two threads must not come at once."""

    def __init__(self, sock):
        self.sock = sock
        self.inside = threading.Lock()
        self.met = 0

    def wrap_socket(self, sock, **_):
        return self

    def fileno(self):
        return self.sock.fileno()

    def _visited(self):
        if not self.inside.acquire(blocking=False):
            self.met += 1
            return
        # Long enough for another thread to come in.
        time.sleep(0.001)
        self.inside.release()

    def read(self, octets):
        self._visited()
        return b"x"

    def write(self, data):
        self._visited()
        return len(data)


def test_two_threads_are_never_in_the_session_at_once():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        session = Session(ours)
        stream = TlsStream(ours, session)

        def many(work):
            for _ in range(200):
                work()

        works = (lambda: stream.recv(1), lambda: stream.send(memoryview(b"y")))
        threads = [threading.Thread(target=many, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert session.met == 0


@pytest.mark.parametrize("data", [b"", b"\x06\x00\x00\x08\x00\x00\x00\x01", b"\x16\x03"])
def test_a_handshake_that_does_not_come_takes_its_time_and_no_more(controllers, data):
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(data)
        stream = TlsStream(ours, controllers.switches())
        with pytest.raises(HandshakeError):
            stream.handshake(0.2)
        stream.close()


def test_time_is_for_the_whole_handshake_and_not_for_each_octet(controllers):
    """As slow as it may be with each octet, it has the time of all."""
    ours, theirs = socket.socketpair()
    with theirs:
        stream = TlsStream(ours, controllers.switches())
        moments = iter(range(100))

        def clock():
            # A second passes between looks at the clock, and an octet comes.
            with contextlib.suppress(OSError):
                theirs.send(b"\x16" if next(moments) < 2 else b"\x03")
            return float(next(moments))

        with pytest.raises(HandshakeError):
            stream.handshake(10.0, clock)
        assert next(moments) < 40
        stream.close()
