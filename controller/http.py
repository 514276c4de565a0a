"""The controller's local HTTP port: its state as JSON, its metrics, and whether it is well.

What is served comes from callables, which may take their time:
they are called in worker threads, and must be safe to call there.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from ovsnet.controller.inquiry.questions import (
    Proposal,
    Question,
    QuestionError,
    UnableError,
    read_proposal,
    read_question,
)
from ovsnet.controller.listener import JSON, Handler, Listener, errors, refusal

_MOST_AT_ONCE = 4
"""Questions that are considered at a time; others wait for their turn."""

_MOST_OCTETS = 1 << 26
"""Of what is planned: more than all policies of a large cluster."""


class Sources(msgspec.Struct, frozen=True):
    """Where the answers come from.

    `healthy` and `ready` return None, or what is wrong in words. Healthy means that the process
    does its work; ready, that it also knows the cluster. `why` and `plan` may raise
    `QuestionError` and `UnableError`.
    """

    status: Callable[[], msgspec.Struct]
    owners: Callable[[], Mapping[str, str]]
    sets: Callable[[], Mapping[str, str]]
    registry: CollectorRegistry
    healthy: Callable[[], str | None]
    ready: Callable[[], str | None]
    why: Callable[[Question], msgspec.Struct]
    plan: Callable[[Proposal], msgspec.Struct]
    refresh: Callable[[], msgspec.Struct]


class HttpServer(Listener):
    """Serves GET /status, /owners, /sets, /why, /metrics, /healthz, /readyz, and POST /plan and
    /refresh, while its context lasts.
    """

    def __init__(self, address: tuple[str, int], sources: Sources) -> None:
        """Bind to `address`; port 0 takes a free one.

        Raises:
            OSError: the address is taken, or not one of ours.
        """
        super().__init__(address, lambda: application(sources), "http")


def application(sources: Sources) -> web.Application:
    """The routes, and errors as JSON."""
    app = web.Application(middlewares=[errors, _questions], client_max_size=_MOST_OCTETS)

    async def status(_: web.Request) -> web.Response:
        return await _json(lambda: msgspec.json.encode(sources.status()))

    async def owners(_: web.Request) -> web.Response:
        return await _json(lambda: msgspec.json.encode(sources.owners()))

    async def sets(_: web.Request) -> web.Response:
        return await _json(lambda: msgspec.json.encode(sources.sets()))

    at_once = asyncio.Semaphore(_MOST_AT_ONCE)

    async def considered(answer: Callable[[], msgspec.Struct]) -> web.Response:
        """An answer that may take long. It keeps no thread from those that must be quick."""
        async with at_once:
            found = await asyncio.wrap_future(_in_thread(lambda: msgspec.json.encode(answer())))
        return web.Response(body=found + b"\n", content_type=JSON)

    async def why(request: web.Request) -> web.Response:
        question = read_question(request.query)
        return await considered(lambda: sources.why(question))

    async def plan(request: web.Request) -> web.Response:
        body = await request.read()
        return await considered(lambda: sources.plan(read_proposal(body)))

    async def refresh(_: web.Request) -> web.Response:
        return await _json(lambda: msgspec.json.encode(sources.refresh()))

    async def metrics(request: web.Request) -> web.Response:
        encode, kind = choose_encoder(request.headers.get("Accept", ""))
        body = await asyncio.to_thread(encode, sources.registry)
        return web.Response(body=body, headers={"Content-Type": kind})

    async def healthz(_: web.Request) -> web.Response:
        return await _verdict(sources.healthy)

    async def readyz(_: web.Request) -> web.Response:
        return await _verdict(sources.ready)

    for handler in (status, owners, sets, why, metrics, healthz, readyz):
        app.router.add_get(f"/{handler.__name__}", handler)
    for changing in (plan, refresh):
        app.router.add_post(f"/{changing.__name__}", changing)
    return app


def _in_thread(work: Callable[[], bytes]) -> Future[bytes]:
    """Have work done in a thread that the end of the process does not wait for."""
    answer: Future[bytes] = Future()

    def do() -> None:
        answer.set_running_or_notify_cancel()
        try:
            answer.set_result(work())
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=do, name="question", daemon=True).start()
    return answer


async def _json(produce: Callable[[], bytes]) -> web.Response:
    return web.Response(body=await asyncio.to_thread(produce) + b"\n", content_type=JSON)


async def _verdict(ask: Callable[[], str | None]) -> web.Response:
    wrong = await asyncio.to_thread(ask)
    if wrong is None:
        return web.Response(text="ok\n")
    return web.Response(status=503, text=f"{wrong}\n")


@web.middleware
async def _questions(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns a question that has no answer into JSON that says why."""
    try:
        return await handler(request)
    except QuestionError as error:
        return refusal(400, str(error))
    except UnableError as error:
        return refusal(503, str(error))
