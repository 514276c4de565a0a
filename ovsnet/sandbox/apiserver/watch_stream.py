"""Watches as they go over the wire: events as lines of JSON, until client or time end them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import msgspec
from aiohttp import web

from ovsnet.sandbox.apiserver.kinds import Kind, Object
from ovsnet.sandbox.apiserver.status import ApiError
from ovsnet.sandbox.apiserver.store import Change, Collection, Store, Stored
from ovsnet.sandbox.apiserver.watching import Cursor, EventType, Scope, WatchEvent, select

INITIAL_EVENTS_END = "k8s.io/initial-events-end"
"""Annotation of the bookmark that ends the initial events (KEP-3157)."""


@dataclass(frozen=True)
class WatchOptions:
    """What a watch asks for."""

    scope: Scope
    revision: int
    """Where to start; 0 for now, with what there is as initial events."""
    timeout: float
    """Seconds."""
    bookmarks: bool
    initial_events_end: bool
    """Whether a bookmark is to mark the end of the initial events."""


Render = Callable[[Stored], bytes]
"""How a watch's client wants its objects: as they are, as table rows, metadata only."""


def event_line(type_: EventType, body: bytes) -> bytes:
    """One event as it is sent."""
    return b'{"type":"' + type_.encode() + b'","object":' + body + b"}\n"


def bookmark(kind: Kind, revision: int, ends_initial_events: bool = False) -> Object:
    """An object that says nothing but how far a watch has come."""
    metadata: Object = {"resourceVersion": str(revision)}
    if ends_initial_events:
        metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
    return {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata}


class Watchers:
    """Every watch that is open, to be woken by writes and to be cut."""

    def __init__(self, store: Store, bookmark_interval: float) -> None:
        self.store = store
        self.bookmark_interval = bookmark_interval
        self._open: dict[Kind, dict[asyncio.Event, web.Request]] = {}
        self._stopping = False
        store.subscribe(self._wake)

    def _wake(self, kind: Kind, _: Change) -> None:
        for event in self._open.get(kind, ()):
            event.set()

    def __len__(self) -> int:
        return sum(map(len, self._open.values()))

    def stop(self) -> None:
        """End every watch in good order, and those that come at once."""
        self._stopping = True
        for watches in self._open.values():
            for event in watches:
                event.set()

    def cut(self) -> int:
        """Break every watch's connection; returns how many there were."""
        cut = 0
        for watches in self._open.values():
            for request in watches.values():
                if request.transport is not None:
                    request.transport.abort()
                    cut += 1
        return cut

    async def serve(
        self, request: web.Request, kind: Kind, options: WatchOptions, render: Render
    ) -> web.StreamResponse:
        """Answer a watch until it ends."""
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        wake = asyncio.Event()
        self._open.setdefault(kind, {})[wake] = request
        try:
            await response.prepare(request)
            await self._stream(response, kind, options, render, wake)
            await response.write_eof()
        except ConnectionError:
            pass
        finally:
            del self._open[kind][wake]
        return response

    async def _stream(
        self,
        response: web.StreamResponse,
        kind: Kind,
        options: WatchOptions,
        render: Render,
        wake: asyncio.Event,
    ) -> None:
        collection = self.store[kind]
        loop = asyncio.get_running_loop()
        deadline = loop.time() + options.timeout
        try:
            initial, cursor = _start(collection, self.store.revision, options)
            lines = [event_line(EventType.ADDED, render(item)) for item in initial]
            if options.initial_events_end:
                lines.append(self._bookmark(kind, ends_initial_events=True))
            await response.write(b"".join(lines))
            next_bookmark = loop.time() + self.bookmark_interval
            while not self._stopping:
                wake.clear()
                lines = list(_lines(cursor.advance(), render))
                now = loop.time()
                last = now >= deadline
                if options.bookmarks and (last or now >= next_bookmark):
                    lines.append(self._bookmark(kind))
                    next_bookmark = now + self.bookmark_interval
                if lines:
                    await response.write(b"".join(lines))
                if last:
                    return
                until = min(deadline, next_bookmark) if options.bookmarks else deadline
                await _wait(wake, until - loop.time())
        except ApiError as error:
            body = msgspec.json.encode(error.status())
            await response.write(event_line(EventType.ERROR, body))

    def _bookmark(self, kind: Kind, ends_initial_events: bool = False) -> bytes:
        body = msgspec.json.encode(bookmark(kind, self.store.revision, ends_initial_events))
        return event_line(EventType.BOOKMARK, body)


def _start(collection: Collection, now: int, options: WatchOptions) -> tuple[list[Stored], Cursor]:
    """The initial events and the place to go on from; nothing can come between the two."""
    if options.revision and not options.initial_events_end:
        return [], Cursor(collection, options.scope, options.revision)
    return select(collection, options.scope), Cursor(collection, options.scope, now)


def _lines(events: Iterable[WatchEvent], render: Render) -> Iterator[bytes]:
    for event in events:
        yield event_line(event.type, render(event.object))


async def _wait(wake: asyncio.Event, seconds: float) -> None:
    if seconds <= 0:
        return
    try:
        async with asyncio.timeout(seconds):
            await wake.wait()
    except TimeoutError:
        pass
