"""The server itself: sockets, one event loop, and a class that tests start in a thread."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import msgspec
from aiohttp import web

from ovsnet.sandbox.apiserver.admission import Admission
from ovsnet.sandbox.apiserver.bootstrap import Advertised, bootstrap
from ovsnet.sandbox.apiserver.faults import Faults, read_request
from ovsnet.sandbox.apiserver.handlers import ObjectHandlers, json_response
from ovsnet.sandbox.apiserver.kubeconfig import write_kubeconfig
from ovsnet.sandbox.apiserver.meta_handlers import handle_meta
from ovsnet.sandbox.apiserver.registry import Registry, Sources, new_store
from ovsnet.sandbox.apiserver.request import parse_path
from ovsnet.sandbox.apiserver.services import ServiceRange, by_family
from ovsnet.sandbox.apiserver.status import ApiError, method_not_allowed
from ovsnet.sandbox.apiserver.tokens import Tokens
from ovsnet.sandbox.apiserver.watch_stream import Watchers
from ovsnet.sandbox.workloads.controllers import controllers
from ovsnet.sandbox.workloads.nodes import PodRange
from ovsnet.sandbox.workloads.runner import Runner, only

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_LARGEST_BODY = 8 * 1024 * 1024
_SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
"""Letters of generated names: no vowels, so that they spell nothing."""

FAULTS_PATH = "/sandbox/faults"


@dataclass(frozen=True)
class Options:
    """How a server is to be."""

    service_ranges: Sequence[ServiceRange] = (
        ip_network("10.96.0.0/16"),
        ip_network("fd00:10:96::/112"),
    )
    """At most one range of each family; the first is the family that services get by default."""
    history: int = 10_000
    """Changes that are kept of each kind, for watches and pages that start in the past."""
    bookmark_interval: float = 60.0
    """Seconds."""
    pod_ranges: Sequence[PodRange] = (ip_network("10.244.0.0/16"), ip_network("fd00:10:244::/56"))
    """Where nodes get their podCIDRs from: a /24 and a /64 each."""
    controllers: Collection[str] | None = None
    """Names of the controllers to run; None for all of them (see `workloads.controllers`)."""
    advertised: Advertised | None = None
    """The endpoint of the service `kubernetes`; None: it has none."""


def real_sources() -> Sources:
    """The system's clock and randomness."""
    return Sources(
        now=lambda: datetime.now(UTC),
        uid=lambda: str(uuid.uuid4()),
        suffix=lambda n: "".join(secrets.choice(_SUFFIX_LETTERS) for _ in range(n)),
    )


class Application:
    """Everything behind the sockets."""

    def __init__(self, options: Options, sources: Sources) -> None:
        self.store = new_store(options.history)
        self.registry = Registry(self.store, sources, Admission(self.store, options.service_ranges))
        self.watchers = Watchers(self.store, options.bookmark_interval)
        self.faults = Faults(self.watchers.cut, self.store.compact, time.monotonic)
        self._tokens = Tokens(self.registry, secrets.token_bytes(32))
        self._objects = ObjectHandlers(self.registry, self.watchers, self._tokens)
        every = controllers(options.pod_ranges)
        names = options.controllers
        self.runner = Runner(self.registry, every if names is None else only(every, names))
        ranges = by_family(options.service_ranges)
        bootstrap(self.registry, ranges, options.advertised)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer any request; a failure becomes a Status."""
        try:
            if request.path == FAULTS_PATH:
                return await self._answer_faults(request)
            self.faults.check()
            meta = await handle_meta(request, self._tokens)
            if meta is not None:
                return meta
            return await self._objects.handle(request, parse_path(request.path))
        except ApiError as error:
            return error_response(error)
        except web.HTTPException as error:
            return error_response(ApiError(error.status, "BadRequest", error.reason))
        except Exception:
            log.exception("request failed method=%s path=%s", request.method, request.path)
            message = "the server has a fault of its own; its log says which"
            return error_response(ApiError(500, "InternalError", message))

    async def _answer_faults(self, request: web.Request) -> web.Response:
        cut = 0
        if request.method == "POST":
            cut = self.faults.inflict(read_request(await request.read()))
        elif request.method != "GET":
            raise method_not_allowed()
        state = {
            "refusingSeconds": self.faults.refusing,
            "openWatches": len(self.watchers),
            "cutWatches": cut,
            "revision": str(self.store.revision),
        }
        return json_response(msgspec.json.encode(state))


def error_response(error: ApiError) -> web.Response:
    """A failure as the client gets it."""
    response = json_response(msgspec.json.encode(error.status()), error.code)
    if error.retry_after:
        response.headers["Retry-After"] = str(error.retry_after)
    return response


async def serve(
    application: Application,
    sockets: Sequence[socket.socket],
    ready: Callable[[], None],
    stop: asyncio.Event,
) -> None:
    """Serve on sockets until `stop` is set; `ready` is called once requests are answered."""
    app = web.Application(client_max_size=_LARGEST_BODY)
    app.router.add_route("*", "/{path:.*}", application.answer)
    # A watch whose client has gone must end at once, not at its next event.
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    work = asyncio.create_task(application.runner.run())
    try:
        for listener in sockets:
            await web.SockSite(runner, listener).start()
        ready()
        await stop.wait()
    finally:
        work.cancel()
        application.watchers.stop()
        await runner.cleanup()


class ApiServer:
    """A server in a thread of this process, on a free port of 127.0.0.1.

        with ApiServer() as server:
            client = connect(server.url)          # or kubectl --kubeconfig server.kubeconfig

    `start` and `stop` do what the context does. `call` runs a function on the server's own
    thread, which is the only one that may touch `application`.
    """

    def __init__(self, options: Options | None = None, sources: Sources | None = None) -> None:
        self.options = options or Options()
        self.application = Application(self.options, sources or real_sources())
        self.url = ""
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._directory: tempfile.TemporaryDirectory[str] | None = None

    def start(self) -> Self:
        """Serve; returns once requests are answered. Raises OSError if there is no port."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._directory = tempfile.TemporaryDirectory(prefix="ovsnet-apiserver-")
        write_kubeconfig(self.kubeconfig, self.url)
        ready = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._run(listener, ready)), name="apiserver", daemon=True
        )
        self._thread.start()
        ready.wait()
        return self

    async def _run(self, listener: socket.socket, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        await serve(self.application, [listener], ready.set, self._stop)

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig file for this server. Raises RuntimeError before `start`."""
        if self._directory is None:
            raise RuntimeError("the server has not been started")
        return Path(self._directory.name) / "kubeconfig"

    def call(self, function: Callable[[], _T]) -> _T:
        """Run a function on the server's thread and return what it returns."""
        if self._loop is None:
            raise RuntimeError("the server has not been started")

        async def run() -> _T:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    def stop(self) -> None:
        """End all watches and connections. Does nothing if the server does not run."""
        if self._thread is not None and self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
            self._thread = None
        if self._directory is not None:
            self._directory.cleanup()
            self._directory = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
