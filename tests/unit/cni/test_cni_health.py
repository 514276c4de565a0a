"""Answers to health checks, on the loopback device in place of the gateway's."""

from __future__ import annotations

import http.client
import json
import secrets
import socket
import threading
from collections.abc import Iterator
from ipaddress import IPv4Address
from types import SimpleNamespace

import pytest
from places import wait_for

from ovsnet import names
from ovsnet.cni import health
from ovsnet.cni.health import MOST, Health
from ovsnet.cni.ranges import Addresses

SECONDS = 20


@pytest.fixture(autouse=True)
def _on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "GATEWAY_PORT", "lo")


@pytest.fixture
def listening() -> Iterator[Health]:
    made = Health()
    yield made
    made.stop()


def gateway() -> Addresses:
    """An address that no other test uses at the moment."""
    ipv4 = IPv4Address(0x7F000000 | secrets.randbits(24))
    return Addresses(1, ipv4, None, ipv4, None)


def asks(
    gateway: Addresses, port: int, method: str = "GET", path: str = "/"
) -> tuple[int, http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection(str(gateway.ipv4), port, timeout=SECONDS)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("path", ["/", "/healthz", "/a/../b?c=d"])
def test_the_port_alone_decides(listening: Health, path: str):
    address = gateway()
    listening.ensure(address)
    for port, expected, here in (
        (names.HEALTHY_PORT, 200, True),
        (names.UNHEALTHY_PORT, 503, False),
    ):
        status, answer, body = asks(address, port, path=path)
        assert status == expected
        assert json.loads(body) == {"hasLocalEndpoints": here, "serviceProxyHealthy": True}
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert asks(address, port, "HEAD")[::2] == (expected, b"")


def test_it_follows_the_gateway(listening: Health):
    before, after = gateway(), gateway()
    listening.ensure(before)
    listening.ensure(before)
    listening.ensure(after)
    assert asks(after, names.HEALTHY_PORT)[0] == 200
    with pytest.raises(ConnectionRefusedError):
        asks(before, names.HEALTHY_PORT)
    listening.stop()
    with pytest.raises(ConnectionRefusedError):
        asks(after, names.UNHEALTHY_PORT)


def test_a_device_that_is_made_anew_is_listened_on_anew(
    listening: Health, monkeypatch: pytest.MonkeyPatch
):
    address = gateway()
    listening.ensure(address)
    before = dict(listening._listeners)
    listening.ensure(address)
    assert listening._listeners == before
    monkeypatch.setattr(socket, "if_nametoindex", lambda name: 77)
    listening.ensure(address)
    assert not set(before.values()) & set(listening._listeners.values())
    assert asks(address, names.HEALTHY_PORT)[0] == 200


def test_without_the_device_nobody_listens(listening: Health, monkeypatch: pytest.MonkeyPatch):
    address = gateway()
    listening.ensure(address)
    monkeypatch.setattr(names, "GATEWAY_PORT", "there-is-none")
    listening.ensure(address)
    with pytest.raises(ConnectionRefusedError):
        asks(address, names.HEALTHY_PORT)


def test_a_port_that_is_taken(listening: Health, monkeypatch: pytest.MonkeyPatch):
    warnings: list[dict] = []
    log = SimpleNamespace(
        warning=lambda event, **fields: warnings.append(fields), debug=lambda *_, **__: None
    )
    monkeypatch.setattr(health, "_log", log)
    address = gateway()
    with socket.create_server((str(address.ipv4), names.UNHEALTHY_PORT)):
        listening.ensure(address)
        listening.ensure(address)
        (warning,) = warnings
        assert (warning["address"], warning["port"]) == (address.ipv4, names.UNHEALTHY_PORT)
        assert "in use" in warning["reason"]
        assert asks(address, names.HEALTHY_PORT)[0] == 200
    listening.ensure(address)
    assert asks(address, names.UNHEALTHY_PORT)[0] == 503
    assert len(warnings) == 1


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n"])
def test_those_who_keep_silent_make_room(
    listening: Health, sent: bytes, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(health._Answer, "timeout", 60 * SECONDS)
    address = gateway()
    listening.ensure(address)
    silent = []
    try:
        for _ in range(MOST + 5):
            sock = socket.create_connection((str(address.ipv4), names.HEALTHY_PORT), SECONDS)
            silent.append(sock)
            sock.sendall(sent)
        assert asks(address, names.HEALTHY_PORT)[0] == 200
        # The first are put out; how many threads there are shows that the others still wait.
        assert silent[0].recv(1) == b""
        dealing = [t for t in threading.enumerate() if t.name == "health"]
        assert len(dealing) <= MOST + len(listening._listeners)
        silent[-1].sendall(b"GET / HTTP/1.0\r\n\r\n" if not sent else b"\r\n\r\n")
        assert silent[-1].recv(100)
    finally:
        for sock in silent:
            sock.close()


@pytest.mark.parametrize(
    "sent",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\n\n", b"GET\r\n\r\n", b"A" * 70000, b"PUT / H\r\n"],
)
def test_nonsense_ends_nothing(listening: Health, sent: bytes):
    address = gateway()
    listening.ensure(address)
    with socket.create_connection((str(address.ipv4), names.HEALTHY_PORT), SECONDS) as sock:
        sock.sendall(sent)
        sock.shutdown(socket.SHUT_WR)
        # Whatever is answered, the connection ends; with what was not read, by a reset.
        try:
            while sock.recv(1000):
                pass
        except ConnectionResetError:
            pass
    assert asks(address, names.HEALTHY_PORT)[0] == 200


def test_stopping_gives_up_what_is_under_way():
    made = Health()
    address = gateway()
    made.ensure(address)
    with socket.create_connection((str(address.ipv4), names.HEALTHY_PORT), SECONDS) as sock:
        wait_for(lambda: made._desk._open, "the question to be taken up")
        made.stop()
        assert sock.recv(1) == b""
    wait_for(lambda: not made._desk._open, "its thread to end")
