"""ovs-vswitchd's control socket: the commands of ovs-appctl(8), as JSON-RPC 1.0."""

from __future__ import annotations

import json
import select
import socket
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_RECEIVE_BYTES = 1 << 18
_CREDENTIALS = struct.Struct("iII")
_NAMES = "ovs-vswitchd*.ctl"
_AT_ONCE = 100
"""How many commands are sent before their answers are read. Both sides send without reading when
the other does not read: thousands of commands in one go would wait for each other for ever.
"""


class ControlError(Exception):
    """ovs-vswitchd does not answer, or refuses a command; the text says which and why."""


class RefusedError(ControlError):
    """ovs-vswitchd refuses a command, for this reason."""

    def __init__(self, command: str, reason: str) -> None:
        super().__init__(f"ovs-vswitchd refuses {command}: {reason}")
        self.reason = reason


def dial(rundir: Path) -> socket.socket | None:
    """A connection to the control socket of the ovs-vswitchd that runs; None: none does.

    A daemon that was killed leaves its socket behind, where nobody listens any more.
    """
    for path in rundir.glob(_NAMES):
        control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            control.connect(str(path))
        except OSError:
            control.close()
            continue
        return control
    return None


def datapaths(shown: str) -> list[str]:
    """The datapaths that are in use, such as `netdev@ovs-netdev`, from what upcall/show prints."""
    return [line.rstrip(":") for line in shown.splitlines() if line[:1].strip()]


class Control:
    """One connection to the control socket. A context manager; for one thread."""

    def __init__(self, rundir: Path, timeout: float = 5.0) -> None:
        """Connect. `timeout` is how many seconds an answer may take.

        Raises:
            ControlError: ovs-vswitchd does not run.
        """
        found = dial(rundir)
        if found is None:
            raise ControlError(f"ovs-vswitchd does not run (no control socket in {rundir})")
        self._socket = found
        self._timeout = timeout
        self._buffer = ""
        self._id = 0
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    @property
    def pid(self) -> int:
        """The daemon's process id; 0 if it belongs to a namespace that is not seen from here."""
        size = _CREDENTIALS.size
        found = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        return int(_CREDENTIALS.unpack(found)[0])

    def ask(self, command: str, *arguments: str) -> str:
        """Have a command carried out and return what it prints.

        Raises:
            ControlError: no answer, or the command was refused.
        """
        return self.ask_all([(command, *arguments)])[0]

    def ask_all(self, commands: Sequence[tuple[str, ...]]) -> list[str]:
        """The same for several commands that are sent one right after the other.

        Raises:
            ControlError: as `ask`.
        """
        answers = []
        for answer in self.ask_each(commands):
            if isinstance(answer, RefusedError):
                raise answer
            answers.append(answer)
        return answers

    def ask_each(self, commands: Sequence[tuple[str, ...]]) -> list[str | RefusedError]:
        """The same, where one that is refused does not matter to the others.

        Raises:
            ControlError: no answer.
        """
        answers: list[str | RefusedError] = []
        for start in range(0, len(commands), _AT_ONCE):
            answers += self._exchange(commands[start : start + _AT_ONCE])
        return answers

    def _exchange(self, commands: Sequence[tuple[str, ...]]) -> list[str | RefusedError]:
        requests = []
        for command, *arguments in commands:
            self._id += 1
            requests.append({"method": command, "params": arguments, "id": self._id})
        until = time.monotonic() + self._timeout
        try:
            self._socket.sendall("".join(map(json.dumps, requests)).encode())
            return [self._answer(request, until) for request in requests]
        except OSError as error:
            raise ControlError(f"ovs-vswitchd is gone ({error.strerror})") from None

    def _answer(self, request: dict[str, Any], until: float) -> str | RefusedError:
        while True:
            reply = self._take()
            if reply is None:
                self._receive(request, until)
            elif reply.get("id") == request["id"]:
                if reply.get("error") is not None:
                    return RefusedError(request["method"], str(reply["error"]).strip())
                return str(reply.get("result"))

    def _take(self) -> dict[str, Any] | None:
        """The next whole reply off the front of what has come."""
        # To look at every piece of a long answer from its beginning would take ever longer.
        if not self._buffer.endswith("}"):
            return None
        try:
            reply, end = json.JSONDecoder().raw_decode(self._buffer)
        except ValueError:
            return None
        self._buffer = self._buffer[end:]
        if not isinstance(reply, dict):
            raise ControlError("ovs-vswitchd answers what is no reply")
        return reply

    def _receive(self, request: dict[str, Any], until: float) -> None:
        left = until - time.monotonic()
        if left <= 0 or not self._poll.poll(max(1, round(left * 1000))):
            raise ControlError(
                f"ovs-vswitchd did not answer {request['method']} within {self._timeout:g} s"
            )
        data = self._socket.recv(_RECEIVE_BYTES)
        if not data:
            raise ControlError("ovs-vswitchd has hung up")
        self._buffer += data.decode(errors="replace")
