"""The controller's local HTTP port: its state as JSON, its metrics, and whether it is well.

aiohttp in a thread of its own. What is served comes from callables, which may take their time:
they are called in worker threads, and must be safe to call there.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Self

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from ovsnet import logs
from ovsnet.controller.questions import Question, QuestionError, UnableError, read_question

JSON = "application/json"
_CLOSE_SECONDS = 1.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Sources(msgspec.Struct, frozen=True):
    """Where the answers come from.

    `healthy` and `ready` return None, or what is wrong in words. Healthy means that the process
    does its work; ready, that it also knows the cluster. `why` may raise `QuestionError` and
    `UnableError`.
    """

    status: Callable[[], msgspec.Struct]
    owners: Callable[[], Mapping[str, str]]
    registry: CollectorRegistry
    healthy: Callable[[], str | None]
    ready: Callable[[], str | None]
    why: Callable[[Question], msgspec.Struct]


class HttpServer:
    """Serves GET /status, /owners, /why, /metrics, /healthz and /readyz while its context lasts."""

    def __init__(self, address: tuple[str, int], sources: Sources) -> None:
        """Bind to `address`; port 0 takes a free one.

        Raises:
            OSError: the address is taken, or not one of ours.
        """
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._socket = socket.create_server(address, family=family)
        self._sources = sources
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        """The address and port that it is bound to."""
        host, port = self._socket.getsockname()[:2]
        return host, port

    def start(self) -> None:
        """Begin to answer. Connections made before that wait."""
        self._thread.start()

    def stop(self) -> None:
        """End all connections; does nothing if it was not started, or has stopped."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()
        self._socket.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        runner = web.AppRunner(
            application(self._sources), access_log=None, shutdown_timeout=_CLOSE_SECONDS
        )
        await runner.setup()
        try:
            await web.SockSite(runner, self._socket).start()
            await self._stopping.wait()
        finally:
            await runner.cleanup()


def application(sources: Sources) -> web.Application:
    """The routes, and errors as JSON."""
    app = web.Application(middlewares=[_errors])

    async def status(_: web.Request) -> web.Response:
        return await _json(lambda: msgspec.json.encode(sources.status()))

    async def owners(_: web.Request) -> web.Response:
        return await _json(lambda: msgspec.json.encode(sources.owners()))

    async def why(request: web.Request) -> web.Response:
        question = read_question(request.query)
        return await _json(lambda: msgspec.json.encode(sources.why(question)))

    async def metrics(request: web.Request) -> web.Response:
        encode, kind = choose_encoder(request.headers.get("Accept", ""))
        body = await asyncio.to_thread(encode, sources.registry)
        return web.Response(body=body, headers={"Content-Type": kind})

    async def healthz(_: web.Request) -> web.Response:
        return await _verdict(sources.healthy)

    async def readyz(_: web.Request) -> web.Response:
        return await _verdict(sources.ready)

    for handler in (status, owners, why, metrics, healthz, readyz):
        app.router.add_get(f"/{handler.__name__}", handler)
    return app


async def _json(produce: Callable[[], bytes]) -> web.Response:
    return web.Response(body=await asyncio.to_thread(produce) + b"\n", content_type=JSON)


async def _verdict(ask: Callable[[], str | None]) -> web.Response:
    wrong = await asyncio.to_thread(ask)
    if wrong is None:
        return web.Response(text="ok\n")
    return web.Response(status=503, text=f"{wrong}\n")


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns every failure into JSON that says what to do instead."""
    try:
        return await handler(request)
    except web.HTTPNotFound:
        paths = sorted({route.canonical for route in request.app.router.resources()})
        text = f"nothing is served at {request.path}; there is {', '.join(paths)}"
        return _error(404, text)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        text = f"{request.method} is not possible here; {request.path} takes {allowed}"
        return _error(405, text, {"Allow": allowed})
    except web.HTTPException as error:
        return _error(error.status, error.reason)
    except QuestionError as error:
        return _error(400, str(error))
    except UnableError as error:
        return _error(503, str(error))
    except Exception:
        logs.get("http").exception("request failed", path=request.path)
        return _error(500, "an internal fault; the controller's log has the details")


def _error(status: int, text: str, headers: Mapping[str, str] | None = None) -> web.Response:
    body = msgspec.json.encode({"error": text}) + b"\n"
    return web.Response(status=status, body=body, content_type=JSON, headers=headers)
