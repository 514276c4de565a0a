"""What answers in a pod: HTTP on its TCP (and SCTP) ports, an echo on its UDP ports.

Every answer carries the pod's name, so that whoever asks knows whom it has reached.

| request | answer |
|---|---|
| `GET /hostname` | the pod's name and nothing else |
| `GET /clientip` | the address and port that the pod sees the client come from |
| `GET /bytes/N` | N bytes, with their SHA-256 in the header `Digest` |
| `POST /digest` | the SHA-256 of the body, in hexadecimal |
| anything else | JSON: pod, namespace, node, client |
| a UDP datagram | the pod's name, a space and the datagram |

A pod's sockets are opened inside its namespace and served by this process's one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import json
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from ovsnet import logs
from ovsnet.sandbox import netns

TCP = "TCP"
UDP = "UDP"
SCTP = "SCTP"

_IPPROTO_SCTP = 132
_IN_PKTINFO = struct.Struct("=i4s4s")
_IP_PKTINFO = 8
_LARGEST_DATAGRAM = 65535
_LARGEST_ANSWER = 1 << 30
_LARGEST_BODY = 1 << 30
_BACKLOG = 128
_SHUTDOWN_SECONDS = 0.1
_NOT_IN_THIS_KERNEL = frozenset(
    {errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT, errno.EAFNOSUPPORT, errno.ENOPROTOOPT}
)
_PATTERN = bytes(range(256)) * 256

_log = logs.get("responder")


class Port(msgspec.Struct, frozen=True, order=True):
    """A port that a container declares."""

    protocol: str
    number: int


class Identity(msgspec.Struct, frozen=True):
    """Who answers."""

    namespace: str
    pod: str
    node: str


def declared_ports(pod: Mapping[str, Any]) -> tuple[Port, ...]:
    """Every containerPort of a pod's running containers, sidecars included, once each."""
    spec = pod["spec"]
    sidecars = (c for c in spec.get("initContainers", ()) if c.get("restartPolicy") == "Always")
    found = {
        Port(port.get("protocol", TCP), int(port["containerPort"]))
        for container in (*spec["containers"], *sidecars)
        for port in container.get("ports") or ()
    }
    return tuple(sorted(found))


def pattern(size: int) -> bytes:
    """The bytes that `GET /bytes/SIZE` answers with."""
    return (_PATTERN * (size // len(_PATTERN) + 1))[:size]


async def answer(identity: Identity, request: web.BaseRequest) -> web.StreamResponse:
    """The answer to one HTTP request; see the module's table."""
    peer = request.transport.get_extra_info("peername") if request.transport else None
    address, port = (peer[0].split("%")[0], peer[1]) if peer else ("", 0)
    client = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    headers = {"Server": f"{identity.namespace}/{identity.pod}"}
    match request.path.split("/")[1:]:
        case ["hostname"]:
            return web.Response(text=identity.pod, headers=headers)
        case ["clientip"]:
            return web.Response(text=client, headers=headers)
        case ["bytes", size] if size.isdecimal() and int(size) <= _LARGEST_ANSWER:
            body = pattern(int(size))
            digest = hashlib.sha256(body).hexdigest()
            return web.Response(body=body, headers={**headers, "Digest": digest})
        case ["digest"] if request.method == "POST":
            seen = hashlib.sha256()
            async for chunk in request.content.iter_any():
                seen.update(chunk)
            return web.Response(text=seen.hexdigest(), headers=headers)
    document = msgspec.structs.asdict(identity) | {"client": client}
    return web.Response(
        text=json.dumps(document) + "\n", content_type="application/json", headers=headers
    )


class _Echo:
    """Answers datagrams from the address that they were sent to.

    A node has several addresses, and the kernel would choose one of them by its routes; so the
    destination is read with every datagram (IP_PKTINFO, RFC 3542) and given back with the answer.
    """

    def __init__(self, name: str, sock: socket.socket) -> None:
        self._prefix = name.encode() + b" "
        self._socket = sock

    def readable(self) -> None:
        """Answer whatever has arrived."""
        while True:
            try:
                data, ancillary, _, sender = self._socket.recvmsg(_LARGEST_DATAGRAM, 256)
                self._socket.sendmsg([self._prefix, data], _reply_source(ancillary), 0, sender)
            except BlockingIOError:
                return
            except OSError as error:
                # An earlier answer's ICMP error, or a client that is gone: the next may be well.
                _log.debug("datagram not answered", error=error)
                return


def _reply_source(ancillary: Sequence[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
            _, _, destination = _IN_PKTINFO.unpack(data)
            return [(level, kind, _IN_PKTINFO.pack(0, destination, bytes(4)))]
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            return [(level, kind, data)]
    return []


def open_socket(port: Port, family: socket.AddressFamily) -> socket.socket:
    """A socket on a port of every address of one family, in the calling thread's namespace.

    Raises:
        OSError: the port is taken, or the kernel knows no such protocol.
    """
    datagrams = port.protocol == UDP
    sock = socket.socket(
        family,
        socket.SOCK_DGRAM if datagrams else socket.SOCK_STREAM,
        _IPPROTO_SCTP if port.protocol == SCTP else 0,
    )
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if not datagrams:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        elif family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        sock.bind(("", port.number))
        if not datagrams:
            sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


class Responders:
    """The responders of one pod. `problems` names the ports that nobody answers on, and why."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._web = web.Server(lambda request: answer(identity, request))
        self._servers: list[asyncio.Server] = []
        self._datagrams: list[socket.socket] = []
        self.problems: list[str] = []

    async def open(self, ports: Sequence[Port], namespace: Path | None) -> None:
        """Answer on these ports in a network namespace (None: in this process's own)."""

        def sockets() -> list[tuple[Port, socket.socket]]:
            return list(self._open_all(ports))

        opening: Callable[[], list[tuple[Port, socket.socket]]] = sockets
        if namespace is not None:
            opened = await asyncio.to_thread(netns.within, namespace, opening)
        else:
            opened = opening()
        loop = asyncio.get_running_loop()
        for port, sock in opened:
            if port.protocol == UDP:
                self._datagrams.append(sock)
                loop.add_reader(sock, _Echo(self._identity.pod, sock).readable)
            else:
                self._servers.append(await loop.create_server(self._web, sock=sock))

    def _open_all(self, ports: Sequence[Port]) -> list[tuple[Port, socket.socket]]:
        opened = []
        for port in ports:
            for family in (socket.AF_INET, socket.AF_INET6):
                try:
                    opened.append((port, open_socket(port, family)))
                except OSError as error:
                    lacking = error.errno in _NOT_IN_THIS_KERNEL
                    reason = f"this kernel has no {port.protocol}" if lacking else str(error)
                    self.problems.append(f"{port.protocol} port {port.number}: {reason}")
                    break
        return opened

    async def close(self) -> None:
        """Stop answering, and drop connections that are open."""
        loop = asyncio.get_running_loop()
        for sock in self._datagrams:
            loop.remove_reader(sock)
            sock.close()
        for server in self._servers:
            server.close()
        with contextlib.suppress(TimeoutError):
            await self._web.shutdown(_SHUTDOWN_SECONDS)
        self._datagrams.clear()
        self._servers.clear()
