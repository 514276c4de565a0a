"""A port on which the controller answers HTTP: aiohttp in a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Self

import msgspec
from aiohttp import web

from ovsnet import logs
from ovsnet.controller.trust.door import Door, Tls
from ovsnet.controller.trust.refusals import TellRefusal

JSON = "application/json"
_CLOSE_SECONDS = 1.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Listener:
    """Serves an application while its context lasts."""

    def __init__(
        self,
        address: tuple[str, int],
        application: Callable[[], web.Application],
        name: str,
        tls: Tls | None = None,
        refused: TellRefusal = lambda _: None,
    ) -> None:
        """Bind to `address`; port 0 takes a free one. `name` is the thread's.

        With `tls` it speaks HTTPS, see `Door`, as for `refused`; otherwise plain HTTP.

        Raises:
            OSError: the address is taken, or not one of ours.
        """
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._socket = socket.create_server(address, family=family)
        self._application = application
        self._tls = tls
        self._refused = refused
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

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
            self._application(), access_log=None, shutdown_timeout=_CLOSE_SECONDS
        )
        await runner.setup()
        try:
            if self._tls is None:
                await web.SockSite(runner, self._socket).start()
                await self._stopping.wait()
            else:
                await self._serve_securely(self._tls, runner)
        finally:
            await runner.cleanup()

    async def _serve_securely(self, tls: Tls, runner: web.AppRunner) -> None:
        assert runner.server is not None
        self._socket.setblocking(False)
        door = asyncio.ensure_future(Door(self._socket, tls, runner.server, self._refused).run())
        await self._stopping.wait()
        door.cancel()
        await asyncio.wait([door])


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns every failure into JSON that says what to do instead."""
    try:
        return await handler(request)
    except web.HTTPNotFound:
        paths = sorted({route.canonical for route in request.app.router.resources()})
        text = f"nothing is served at {request.path}; there is {', '.join(paths)}"
        return refusal(404, text)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        text = f"{request.method} is not possible here; {request.path} takes {allowed}"
        return refusal(405, text, {"Allow": allowed})
    except web.HTTPException as error:
        return refusal(error.status, error.reason)
    except Exception:
        logs.get("http").exception("request failed", path=request.path)
        return refusal(500, "an internal fault; the controller's log has the details")


def refusal(status: int, text: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """An answer that is no success, with the reason as JSON."""
    body = msgspec.json.encode({"error": text}) + b"\n"
    return web.Response(status=status, body=body, content_type=JSON, headers=headers)
