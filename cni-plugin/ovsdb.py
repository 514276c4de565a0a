"""Open vSwitch's database: raw transactions over connections that stay open (RFC 7047).

No copy of the database is kept: a transaction names what it changes, and what must be known is
asked for. One takes about 0.4 ms.
"""

from __future__ import annotations

import errno
import os
import queue
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_eventlet = sys.modules.get("eventlet")
# python-ovs imports eventlet where it is installed, to see whether it has replaced the poll
# functions. It has not, and importing it is half of the agent's start (0.35 s).
sys.modules["eventlet"] = None  # type: ignore[assignment]
try:
    import ovs.jsonrpc
    import ovs.poller
    import ovs.stream
finally:
    if _eventlet is None:
        del sys.modules["eventlet"]
    else:
        sys.modules["eventlet"] = _eventlet

Operation = Mapping[str, Any]

_DATABASE = "Open_vSwitch"
_NAMED = "named-uuid"


class DatabaseUnreachable(Exception):  # noqa: N818
    """ovsdb-server does not answer on its socket."""


class TransactionError(Exception):
    """ovsdb-server refused a transaction; nothing of it was done."""

    def __init__(self, error: str, details: str) -> None:
        super().__init__(f"{error}: {details}" if details else error)
        self.error = error


def ovs_map(values: Mapping[Any, Any]) -> list[Any]:
    """A map in the database's notation (RFC 7047, section 5.1)."""
    return ["map", [[k, v] for k, v in sorted(values.items())]]


def ovs_set(values: Sequence[Any]) -> list[Any]:
    """A set in the database's notation."""
    return ["set", list(values)]


def named(name: str) -> list[str]:
    """A reference to a row that the same transaction inserts."""
    return [_NAMED, name]


def values_of(value: Any) -> list[Any]:
    """The members of a set as the database writes it, where one member stands for itself."""
    if isinstance(value, list) and len(value) == 2 and value[0] == "set":
        return list(value[1])
    return [value]


def map_of(value: Any) -> dict[Any, Any]:
    """The pairs of a map as the database writes it."""
    return dict(value[1])


class Database:
    """Connections to one ovsdb-server, made on demand and kept; safe to use from many threads."""

    def __init__(self, path: Path, timeout: float = 5.0) -> None:
        """`timeout` is in seconds, for each transaction."""
        self._remote = f"unix:{path}"
        self._timeout = timeout
        self._idle: queue.LifoQueue[Any] = queue.LifoQueue()

    def close(self) -> None:
        """Close the connections that are not in use."""
        while True:
            try:
                self._idle.get_nowait().close()
            except queue.Empty:
                return

    def transact(self, operations: Sequence[Operation]) -> list[dict[str, Any]]:
        """Carry out the operations as one transaction; returns the result of each.

        A connection that the server closed since its last use is replaced once. That is safe as
        every transaction of the agent may be repeated.

        Raises:
            DatabaseUnreachable: no answer.
            TransactionError: the database refused.
        """
        kept = True
        while True:
            try:
                connection = self._idle.get_nowait()
            except queue.Empty:
                connection, kept = self._connect(), False
            try:
                results = self._exchange(connection, operations)
            except DatabaseUnreachable:
                connection.close()
                if kept:
                    continue
                raise
            except BaseException:
                connection.close()
                raise
            self._idle.put(connection)
            return _checked(results)

    def select(
        self, table: str, columns: Sequence[str], where: Sequence[Any] = ()
    ) -> list[dict[str, Any]]:
        """The rows of a table that fulfil all conditions."""
        query = {"op": "select", "table": table, "where": list(where), "columns": list(columns)}
        rows: list[dict[str, Any]] = self.transact([query])[0]["rows"]
        return rows

    def _connect(self) -> Any:
        error, stream = ovs.stream.Stream.open_block(
            ovs.stream.Stream.open(self._remote), timeout=round(self._timeout * 1000)
        )
        if error:
            raise DatabaseUnreachable(f"{self._remote} cannot be connected to ({_words(error)})")
        return ovs.jsonrpc.Connection(stream)

    def _exchange(self, connection: Any, operations: Sequence[Operation]) -> list[Any]:
        request = ovs.jsonrpc.Message.create_request("transact", [_DATABASE, *operations])
        until = time.monotonic() + self._timeout
        error = connection.send(request)
        while not error:
            connection.run()
            error, message = connection.recv()
            error = 0 if error == errno.EAGAIN else error
            if message is not None:
                if message.type == ovs.jsonrpc.Message.T_REQUEST and message.method == "echo":
                    connection.send(ovs.jsonrpc.Message.create_reply(message.params, message.id))
                elif message.id == request.id:
                    return _reply(message)
                continue
            left = until - time.monotonic()
            if left <= 0:
                raise DatabaseUnreachable(
                    f"{self._remote} did not answer within {self._timeout:g} s"
                )
            poller = ovs.poller.Poller()
            connection.wait(poller)
            connection.recv_wait(poller)
            poller.timer_wait(max(1, round(left * 1000)))
            poller.block()
        raise DatabaseUnreachable(f"{self._remote} closed the connection ({_words(error)})")


def _words(error: int) -> str:
    return "end of file" if error < 0 else os.strerror(error)


def _reply(message: Any) -> list[Any]:
    if message.type == ovs.jsonrpc.Message.T_ERROR:
        raise TransactionError("the server refused the request", str(message.error))
    results: list[Any] = message.result
    return results


def _checked(results: list[Any]) -> list[dict[str, Any]]:
    for result in results:
        if result and "error" in result:
            raise TransactionError(result["error"], result.get("details", ""))
    return results
