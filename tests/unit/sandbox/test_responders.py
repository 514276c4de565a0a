"""Responders on this machine's loopback; the ports are free ones."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from ovsnet.sandbox.kubelet import responders
from ovsnet.sandbox.kubelet.responders import SCTP, TCP, UDP, Identity, Port, Responders

IDENTITY = Identity("shop", "web-0", "node1")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve(protocol: str, ask: Callable[[int], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        port = free_port()
        served = Responders(IDENTITY)
        await served.open([Port(protocol, port)], None)
        assert served.problems == []
        try:
            return await asyncio.wait_for(ask(port), 10)
        finally:
            await served.close()

    return asyncio.run(run())


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_http_says_who_answers_and_who_asked(host: str) -> None:
    async def ask(port: int) -> None:
        async with aiohttp.ClientSession(f"http://{host}:{port}") as session:
            async with session.get("/hostname") as answer:
                assert await answer.text() == "web-0"
            async with session.get("/clientip") as answer:
                assert (await answer.text()).startswith(f"{host}:")
            async with session.get("/any/thing?x=1") as answer:
                seen = json.loads(await answer.text())
        assert (seen["namespace"], seen["pod"], seen["node"]) == ("shop", "web-0", "node1")
        assert seen["client"].startswith(f"{host}:")

    serve(TCP, ask)


def test_a_transfer_carries_its_checksum() -> None:
    async def ask(port: int) -> None:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            async with session.get("/bytes/1000001") as answer:
                body = await answer.read()
                assert len(body) == 1000001
                assert hashlib.sha256(body).hexdigest() == answer.headers["Digest"]
            async with session.post("/digest", data=body) as answer:
                assert await answer.text() == hashlib.sha256(body).hexdigest()

    serve(TCP, ask)


def test_udp_answers_from_the_address_that_was_asked() -> None:
    async def ask(port: int) -> None:
        loop = asyncio.get_running_loop()
        for family, address in (
            (socket.AF_INET, "127.0.0.1"),
            (socket.AF_INET, "127.0.0.7"),
            (socket.AF_INET6, "::1"),
        ):
            with socket.socket(family, socket.SOCK_DGRAM) as client:
                client.setblocking(False)
                client.sendto(b"hello", (address, port))
                data, sender = await loop.sock_recvfrom(client, 2048)
                assert data == b"web-0 hello"
                assert sender[0] == address

    serve(UDP, ask)


def test_after_closing_nobody_answers_and_the_port_is_free() -> None:
    async def run() -> None:
        port = free_port()
        for _ in range(2):
            served = Responders(IDENTITY)
            await served.open([Port(TCP, port), Port(UDP, port)], None)
            assert served.problems == []
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            await served.close()
            writer.close()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)

    asyncio.run(run())


def test_a_port_that_is_taken_is_a_problem_and_others_are_served() -> None:
    async def run() -> None:
        with socket.create_server(("0.0.0.0", 0)) as occupant:
            taken, free = occupant.getsockname()[1], free_port()
            served = Responders(IDENTITY)
            await served.open([Port(TCP, taken), Port(TCP, free)], None)
            (problem,) = served.problems
            assert f"TCP port {taken}" in problem
            await asyncio.open_connection("127.0.0.1", free)
            await served.close()

    asyncio.run(run())


def test_a_kernel_without_sctp_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responders, "_IPPROTO_SCTP", 253)

    async def run() -> None:
        served = Responders(IDENTITY)
        await served.open([Port(SCTP, 9)], None)
        assert served.problems == ["SCTP port 9: this kernel has no SCTP"]

    asyncio.run(run())


def test_declared_ports() -> None:
    pod = {
        "spec": {
            "containers": [
                {"ports": [{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}]},
                {"ports": [{"containerPort": 80}]},
                {},
            ],
            "initContainers": [
                {"ports": [{"containerPort": 1}]},
                {"restartPolicy": "Always", "ports": [{"containerPort": 2}]},
            ],
        }
    }
    assert responders.declared_ports(pod) == (Port(TCP, 2), Port(TCP, 80), Port(UDP, 53))
