"""The agent's end of the unix socket on which the plugin's stub asks (see `stub.exchange`)."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
import struct
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ovsnet import logs

_log = logs.get("server")
_MOST_AT_ONCE = 64
_MOST_REQUEST_BYTES = 4 << 20
_RECEIVE_BYTES = 1 << 16
_STUB_SENDS_WITHIN = 10.0


@dataclass(frozen=True)
class Call:
    """One execution of the plugin, as it came in."""

    environment: Mapping[str, str]
    stdin: bytes
    namespace: int | None
    """Descriptor of the network namespace that CNI_NETNS names, if it could be opened."""
    given_up: Callable[[], bool]
    """True when the plugin that waits for the answer is gone."""


Answer = tuple[int, bytes]
"""Exit status and standard output."""


class Server:
    """Listens, and answers each call in a thread of a pool."""

    def __init__(self, path: Path, answer: Callable[[Call], Answer]) -> None:
        """Listen on `path`, of which a former agent's socket is removed.

        Raises:
            OSError: the path cannot be used, or another agent listens on it.
        """
        self._answer = answer
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # Nobody but root may connect, from the first moment on.
        mask = os.umask(0o177)
        try:
            self._listener.bind(str(path))
        finally:
            os.umask(mask)
        self._listener.listen(1024)
        self._pool = ThreadPoolExecutor(_MOST_AT_ONCE, thread_name_prefix="verb")
        self._thread = threading.Thread(target=self._accept, name="accept", daemon=True)

    def start(self) -> None:
        """Begin to accept."""
        self._thread.start()

    def stop(self) -> None:
        """Accept no more, finish what is under way, remove the socket."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        self._path.unlink(missing_ok=True)
        self._pool.shutdown()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._pool.submit(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        namespaces: list[int] = []
        try:
            with connection:
                connection.settimeout(_STUB_SENDS_WITHIN)
                data = _receive(connection, namespaces)
                environment, stdin = parse_request(data)
                call = Call(
                    environment,
                    stdin,
                    namespaces[0] if namespaces else None,
                    lambda: _hung_up(connection),
                )
                status, output = self._answer(call)
                connection.sendall(b"%d %d\n" % (status, len(output)) + output)
        except (OSError, ValueError) as error:
            _log.warning("a call was not answered", error=error)
        except Exception:
            _log.exception("a call was not answered")
        finally:
            for fd in namespaces:
                os.close(fd)


def _remove_stale(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise OSError(f"{path} exists and is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        try:
            other.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(f"another agent listens on {path}")


def _receive(connection: socket.socket, namespaces: list[int]) -> bytes:
    """The request up to the end of the stream; descriptors that come with it are appended."""
    data = bytearray()
    room = socket.CMSG_SPACE(struct.calcsize("i"))
    while True:
        chunk, ancillary, _, _ = connection.recvmsg(_RECEIVE_BYTES, room, socket.MSG_CMSG_CLOEXEC)
        for level, kind, value in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                count = len(value) // 4
                namespaces.extend(struct.unpack(f"{count}i", value[: 4 * count]))
        if not chunk:
            return bytes(data)
        data += chunk
        if len(data) > _MOST_REQUEST_BYTES:
            raise ValueError(f"a request of more than {_MOST_REQUEST_BYTES} bytes")


def parse_request(data: bytes) -> tuple[dict[str, str], bytes]:
    """Environment and standard input out of what the stub sent.

    Raises:
        ValueError: it does not have that form.
    """
    if data.startswith(b"\0"):
        return {}, data[1:]
    variables, separator, stdin = data.partition(b"\0\0")
    if not separator:
        raise ValueError("a request that does not have the form of the plugin's")
    environment: dict[str, str] = {}
    for pair in variables.split(b"\0"):
        name, _, value = pair.decode(errors="replace").partition("=")
        environment[name] = value
    return environment, stdin


def _hung_up(connection: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connection, 0)
    return bool(poll.poll(0))
