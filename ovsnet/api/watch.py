"""A thread per watch: it carries out what the reflector asks for, and passes on what it tells."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import Any, Protocol

from ovsnet import logs, model
from ovsnet.api.connection import StalledError, UnreachableError
from ovsnet.api.events import (
    Changed,
    Deleted,
    Event,
    Fresh,
    Malformed,
    Reached,
    Rewound,
    Stale,
    Synced,
)
from ovsnet.api.node import NODE
from ovsnet.api.objects import AnyKind
from ovsnet.api.reflector import Get, Notice, Reflector, Timing, Wait

Emit = Callable[[Event], None]
"""Takes an event; called in the watch's thread, and should not block for long."""


class Body(Protocol):
    """A response as `ovsnet.api.connection.Response` has it."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def retry_after(self) -> float:
        """Seconds after which the server wants to be asked again, or 0."""

    def chunks(self) -> Iterator[bytes]:
        """The body, as it comes."""

    def cut(self) -> None:
        """Makes `chunks` end, from another thread."""

    def close(self) -> None:
        """Gives the connection up."""


class Server(Protocol):
    """Answers requests, as `ovsnet.api.connection.Connection` does."""

    def get(self, path: str, query: tuple[tuple[str, str], ...], silence: float) -> Body:
        """Sends a GET; raises UnreachableError if there is no response."""


class Watch:
    """Follows one kind of objects in a thread of its own, from `start` to `stop`.

    `reached` is told, after the news, up to where there is none left to tell.
    """

    def __init__(
        self,
        server: Server,
        kind: AnyKind,
        emit: Emit,
        *,
        field_selector: str = "",
        label_selector: str = "",
        reached: Emit | None = None,
        timing: Timing | None = None,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._server = server
        self._kind = kind
        self._emit = emit
        self._emit_reached = reached
        self._reached = Reached(kind, 0)
        self._wanted = 0
        self._cuttable = False
        self._clock = clock
        self._log = logs.get("api").bind(kind=kind.name)
        if field_selector or label_selector:
            self._log = self._log.bind(selector=field_selector or label_selector)
        timing = timing or Timing()
        self._reflector: Reflector[Any, Any] = Reflector(
            kind, timing, chance, clock(), field_selector, label_selector
        )
        self._stopping = threading.Event()
        self._lock = threading.RLock()
        self._response: Body | None = None
        self._thread = threading.Thread(target=self._run, name=f"watch-{kind.name}", daemon=True)

    def start(self) -> None:
        """Begins with a list."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the watch: nothing is emitted after this returns, and its thread ends soon.

        May be called at any time, more than once, and from within `emit`.
        """
        with self._lock:
            self._stopping.set()
            if self._response is not None:
                self._response.cut()

    def refresh(self, number: int) -> None:
        """Have the objects listed again, though nothing is wrong; from any thread.

        Numbers grow from call to call. `Reached` tells the number when that list, or a later one,
        has been told: it began after this was called.
        """
        with self._lock:
            self._wanted = max(self._wanted, number)
            # A list that is on its way is not cut: another one follows it.
            if self._response is not None and self._cuttable:
                self._response.cut()

    def _run(self) -> None:
        lost: tuple[Notice, ...] = ()
        while not self._stopping.is_set():
            try:
                self._tell(lost)
                with self._lock:
                    self._reflector.refresh(self._wanted)
                step = self._reflector.next()
                if isinstance(step, Wait):
                    self._stopping.wait(step.seconds)
                else:
                    self._carry_out(step)
                lost = ()
            except Exception:
                # Nobody else would notice that this thread is gone. Whatever was lost by the
                # fault, the next list brings it.
                if not self._stopping.is_set():
                    self._log.exception("watch failed by a fault of its own; listing again")
                lost = self._reflector.distrusted("internal fault", self._clock())

    def _carry_out(self, get: Get) -> None:
        try:
            response = self._server.get(get.path, get.query, get.silence)
        except UnreachableError as error:
            self._tell(self._reflector.failed(str(error), self._clock()))
            return
        with closing(response):
            with self._lock:
                if self._stopping.is_set():
                    return
                self._response = response
                self._cuttable = ("watch", "true") in get.query
            try:
                if self._is_wanted:
                    self._reflector.interrupted()
                else:
                    self._read(response)
            finally:
                with self._lock:
                    self._response = None

    def _read(self, response: Body) -> None:
        reflector, clock = self._reflector, self._clock
        self._tell(reflector.answered(response.status, clock(), response.retry_after))
        try:
            for chunk in response.chunks():
                if self._stopping.is_set():
                    return
                self._tell(reflector.data(chunk, clock()))
                if reflector.done:
                    return
        except StalledError:
            self._tell(reflector.stalled(clock()))
        except UnreachableError as error:
            if self._is_wanted:
                reflector.interrupted()
            else:
                self._tell(reflector.failed(str(error), clock()))
        else:
            if self._is_wanted:
                reflector.interrupted()
            else:
                self._tell(reflector.ended(clock()))

    @property
    def _is_wanted(self) -> bool:
        """Whether the present response is a watch that has to give way to a list."""
        with self._lock:
            return self._cuttable and self._wanted > self._reflector.wanted

    def _tell(self, notices: Iterable[Notice]) -> None:
        self._pass_on(notices)
        reached = Reached(self._kind, self._reflector.reached, self._reflector.asked)
        if reached != self._reached and self._emit_reached is not None:
            with self._lock:
                if not self._stopping.is_set():
                    self._reached = reached
                    self._emit_reached(reached)

    def _pass_on(self, notices: Iterable[Notice]) -> None:
        for notice in notices:
            with self._lock:
                if self._stopping.is_set():
                    return
                self._write(notice)
                if not isinstance(notice, Malformed | Rewound):
                    self._emit(notice)

    def _write(self, notice: Notice) -> None:
        match notice:
            case Malformed(_, name, field, reason):
                self._log.warning("object is malformed", object=name, field=field, reason=reason)
            case Rewound(_, seen, now):
                self._log.warning("history of the API server starts over", seen=seen, now=now)
            case Stale(_, since, reason):
                lost = round(self._clock() - since, 3)
                self._log.warning("watch interrupted", reason=reason, seconds=lost)
            case Fresh():
                self._log.info("watch works again")
            case Synced(_, objects):
                self._log.info("listed", objects=len(objects))
            case Changed() | Deleted() | Reached():
                pass


def watch_node(
    server: Server,
    name: str,
    emit: Callable[[model.Node | None], None],
    timing: Timing | None = None,
) -> Watch:
    """Follows one Node: each value that it takes, or None while there is no such node.

    The watch is returned not yet started. While the API server cannot be reached nothing is
    emitted: the last value stays in force.
    """

    def node_of(event: Event) -> None:
        match event:
            case Synced(_, objects):
                found = objects.get(name)
                emit(found if isinstance(found, model.Node) else None)
            case Changed(_, _, model.Node() as node):
                emit(node)
            case Deleted():
                emit(None)
            case _:
                pass

    return Watch(server, NODE, node_of, field_selector=f"metadata.name={name}", timing=timing)
