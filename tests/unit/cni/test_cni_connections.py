from __future__ import annotations

import socket

import pytest

from ovsnet.cni import connections


@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_a_connection_is_seen_while_it_lasts(family: socket.AddressFamily, host: str) -> None:
    with socket.create_server((host, 0), family=family) as server:
        port = server.getsockname()[1]
        target = f"tcp:[{host}]:{port}" if ":" in host else f"tcp:{host}:{port}"
        assert connections.peer_of(target) not in connections.established()
        client = socket.create_connection((host, port))
        accepted, _ = server.accept()
        assert connections.peer_of(target) in connections.established()
        client.close()
        accepted.close()
        assert connections.peer_of(target) not in connections.established()


def test_a_listener_is_no_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)):
        assert (bytes(4), 0) not in connections.established()


@pytest.mark.parametrize("target", ["", "tcp:", "tcp:name:6653", "unix:/run/x", "tcp:1.2.3.4:x"])
def test_a_target_without_an_address(target: str) -> None:
    assert connections.peer_of(target) is None
