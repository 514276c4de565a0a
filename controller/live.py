"""The live connections of nodes, as their switches track them: asked of the nodes' agents.

Agents ask whether anything is wanted of them, and wait for the answer; so no agent need listen
anywhere. Whoever wants to know puts a question down here, from any thread, and waits.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, InvalidStateError
from ipaddress import ip_address
from typing import Annotated

import msgspec

from ovsnet.model import IPAddress


class LiveConnection(msgspec.Struct, frozen=True):
    """A connection by its first packet: the IP protocol's number (IANA), addresses and ports.

    Ports are 0 where the protocol has none.
    """

    protocol: int
    source: IPAddress
    destination: IPAddress
    source_port: int
    destination_port: int


_Octet = Annotated[int, msgspec.Meta(ge=0, le=255)]
_Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]


class Told(msgspec.Struct, frozen=True):
    """The document of `POST /connections`: an agent's answer to the question of this number.

    Each connection is its protocol, source, destination, source port and destination port. `cut`
    means that there are more of them than were told, `error` that there are none to tell, and why.
    """

    node: str
    question: int
    connections: tuple[tuple[_Octet, str, str, _Port, _Port], ...] = ()
    cut: bool = False
    error: str = ""


_decode_told = msgspec.json.Decoder(Told).decode


def read_told(body: bytes) -> Told:
    """An answer from its JSON.

    Raises:
        ValueError: it is none; the message names the field.
    """
    return _decode_told(body)


Answer = tuple[LiveConnection, ...] | str
"""All connections of a node, or why they are not known, in words."""


class _Question(msgspec.Struct, frozen=True):
    node: str
    answer: Future[Answer]


class Questions:
    """Questions to agents, and the agents that wait for one. All methods may be called anywhere."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._open: dict[int, _Question] = {}
        self._waiting: dict[str, Future[int | None]] = {}

    def connections(self, nodes: Iterable[str], seconds: float) -> Mapping[str, Answer]:
        """What these nodes' agents tell within so many seconds; all are asked at once."""
        until = self._clock() + seconds
        asked = {node: self._ask(node) for node in nodes}
        found: dict[str, Answer] = {}
        for node, (number, answer) in asked.items():
            try:
                found[node] = answer.result(max(0.0, until - self._clock()))
            except TimeoutError:
                found[node] = f"its agent has not told them within {seconds:g} s"
            finally:
                self._drop(number)
        return found

    def wait(self, node: str) -> Future[int | None]:
        """The number of the next question to this node; None if it waits elsewhere by then.

        A question that has no answer yet is handed out again: whoever took it has not told.
        """
        waiting: Future[int | None] = Future()
        with self._lock:
            number = next((n for n, q in self._open.items() if q.node == node), None)
            former = self._waiting.pop(node, None)
            if number is None:
                self._waiting[node] = waiting
        if former is not None:
            _give(former, None)
        if number is not None:
            _give(waiting, number)
        return waiting

    def leave(self, node: str, waiting: Future[int | None]) -> None:
        """This node does not wait any more for what `wait` has returned."""
        with self._lock:
            if self._waiting.get(node) is waiting:
                del self._waiting[node]

    def told(self, told: Told) -> None:
        """An agent answers. An answer to a question that nobody asks any more is passed over.

        Raises:
            ValueError: an address in it is none.
        """
        answer = _answer(told)
        with self._lock:
            question = self._open.get(told.question)
            if question is None or question.node != told.node:
                return
            del self._open[told.question]
        question.answer.set_result(answer)

    def _ask(self, node: str) -> tuple[int, Future[Answer]]:
        answer: Future[Answer] = Future()
        with self._lock:
            number = next(self._numbers)
            self._open[number] = _Question(node, answer)
            waiting = self._waiting.pop(node, None)
        if waiting is not None:
            _give(waiting, number)
        return number, answer

    def _drop(self, number: int) -> None:
        with self._lock:
            self._open.pop(number, None)


def _give(waiting: Future[int | None], number: int | None) -> None:
    """End a wait; one that is over already stays as it is."""
    with contextlib.suppress(InvalidStateError):
        waiting.set_result(number)


def _answer(told: Told) -> Answer:
    if told.error:
        return told.error
    if told.cut:
        return f"it has more than {len(told.connections)} live connections"
    return tuple(
        LiveConnection(protocol, ip_address(source), ip_address(destination), *ports)
        for protocol, source, destination, *ports in told.connections
    )
