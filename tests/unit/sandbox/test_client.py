"""The API client against a server that does what real ones do to their clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from ovsnet.sandbox.access import Access
from ovsnet.sandbox.client import (
    ApiError,
    Changed,
    Client,
    Deleted,
    Event,
    Listed,
)

Lines = list[dict[str, Any]]


def item(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": str(version)}}


def event(kind: str, name: str, version: int) -> dict[str, Any]:
    return {"type": kind, "object": item(name, version)}


class Script:
    """Lists and watches as they are to be answered, in order; the last watch stays open."""

    def __init__(self, lists: list[Any], watches: list[Lines]) -> None:
        self.lists = lists
        self.watches = watches
        self.versions: list[str] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("watch") != "true":
            answer = self.lists.pop(0)
            if isinstance(answer, int):
                return web.json_response({"message": "refused"}, status=answer)
            version, items = answer
            return web.json_response({"metadata": {"resourceVersion": version}, "items": items})
        self.versions.append(request.query["resourceVersion"])
        response = web.StreamResponse()
        await response.prepare(request)
        for line in self.watches.pop(0):
            await response.write(json.dumps(line).encode() + b"\n")
        if not self.watches:
            await asyncio.sleep(60)
        return response


@asynccontextmanager
async def server(handler: Callable[[web.Request], Awaitable[Any]]) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def followed(script: Script, count: int) -> list[Event]:
    async def run() -> list[Event]:
        async with server(script.answer) as url, Client(Access(url)) as client:
            events: list[Event] = []
            async for found in client.follow("/api/v1/pods"):
                events.append(found)
                if len(events) == count:
                    break
            return events

    return asyncio.run(asyncio.wait_for(run(), 20))


def names(events: list[Event]) -> list[Any]:
    return [
        [each["metadata"]["name"] for each in found.items]
        if isinstance(found, Listed)
        else (type(found), found.item["metadata"]["name"])
        for found in events
    ]


def test_a_list_and_then_every_change() -> None:
    changes = [event("ADDED", "b", 11), event("MODIFIED", "a", 12), event("DELETED", "b", 13)]
    script = Script([("10", [item("a", 1)])], [changes])
    assert names(followed(script, 4)) == [["a"], (Changed, "b"), (Changed, "a"), (Deleted, "b")]
    assert script.versions == ["10"]


def test_a_watch_that_ends_goes_on_where_it_was_bookmarks_included() -> None:
    script = Script(
        [("10", [])],
        [[event("ADDED", "a", 11)], [event("BOOKMARK", "", 20)], [event("ADDED", "b", 21)]],
    )
    assert names(followed(script, 3)) == [[], (Changed, "a"), (Changed, "b")]
    assert script.versions == ["10", "11", "20"]


def test_a_version_that_is_too_old_means_a_new_list() -> None:
    gone = {"type": "ERROR", "object": {"code": 410, "message": "too old"}}
    script = Script([("10", [item("a", 1)]), ("30", [item("b", 2)])], [[gone], []])
    assert names(followed(script, 2)) == [["a"], ["b"]]
    assert script.versions[:1] == ["10"]


def test_a_refused_list_is_asked_for_again() -> None:
    script = Script([503, ("10", [item("a", 1)])], [[]])
    assert names(followed(script, 1)) == [["a"]]


def test_no_server_at_first() -> None:
    async def run() -> Event:
        async with server(Script([("10", [])], [[]]).answer) as url:
            port = int(url.rsplit(":", 1)[1])
        async with Client(Access(f"http://127.0.0.1:{port}")) as client:
            following = client.follow("/api/v1/pods")
            first = asyncio.ensure_future(anext(following))
            await asyncio.sleep(0.2)
            assert not first.done()
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", Script([("10", [])], [[]]).answer)
            runner = web.AppRunner(app, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", port).start()
            try:
                return await first
            finally:
                await runner.cleanup()

    assert asyncio.run(asyncio.wait_for(run(), 20)) == Listed([])


def test_a_refusal_has_the_servers_words() -> None:
    async def refuse(request: web.Request) -> web.Response:
        return web.json_response({"message": 'pods "x" not found'}, status=404)

    async def run() -> None:
        async with server(refuse) as url, Client(Access(url)) as client:
            with pytest.raises(ApiError, match='pods "x" not found') as caught:
                await client.get("/api/v1/namespaces/a/pods/x")
            assert caught.value.status == 404

    asyncio.run(run())


def test_a_deletion_names_the_very_object() -> None:
    seen: list[Any] = []

    async def accept(request: web.Request) -> web.Response:
        seen.append((request.method, request.path, await request.json()))
        return web.json_response({})

    async def run() -> None:
        async with server(accept) as url, Client(Access(url)) as client:
            await client.delete("/api/v1/namespaces/a/pods/x", "uid-1", 0)

    asyncio.run(run())
    ((method, path, body),) = seen
    assert (method, path) == ("DELETE", "/api/v1/namespaces/a/pods/x")
    assert body["preconditions"] == {"uid": "uid-1"}
    assert body["gracePeriodSeconds"] == 0
