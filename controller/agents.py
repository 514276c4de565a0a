"""The port on which the controller hears from agents.

    POST /settled    {"node": "node-1", "digest": "1f…", "serial": 7}

An agent is believed about the node whose address it speaks from, and about no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Protocol

from aiohttp import web

from ovsnet.controller.brain import Brain, ReportRefused, Result
from ovsnet.controller.listener import Listener, errors, refusal
from ovsnet.controller.loop import Question
from ovsnet.controller.reports import Settled, read_settled

_MOST_OCTETS = 1 << 16
_PATIENCE = 5.0


class LoopThread(Protocol):
    """Who works in the loop's thread; `ovsnet.controller.loop.Loop` does."""

    def ask(self, question: Question) -> None:
        """Put a question to the brain there, and carry out what comes of it."""


class Agents:
    """Passes on to the brain what agents report."""

    def __init__(self, brain: Brain, loop: LoopThread) -> None:
        self._brain = brain
        self._loop = loop

    def settled(self, report: Settled, address: str) -> Future[str | None]:
        """Take a report in; the result is why it is not believed, or None. From any thread."""
        return self._told(partial(self._brain.reported, report, address))

    def _told(self, question: Question) -> Future[str | None]:
        answer: Future[str | None] = Future()

        def ask(now: float) -> list[Result]:
            try:
                results = question(now)
            except Exception as error:
                answer.set_exception(error)
                raise
            refused = [r.reason for r in results if isinstance(r, ReportRefused)]
            answer.set_result(refused[0] if refused else None)
            return results

        self._loop.ask(ask)
        return answer


class AgentsServer(Listener):
    """Serves agents while its context lasts."""

    def __init__(self, address: tuple[str, int], agents: Agents) -> None:
        """Bind to `address`; port 0 takes a free one.

        Raises:
            OSError: the address is taken, or not one of ours.
        """
        super().__init__(address, lambda: application(agents), "agents")


def application(agents: Agents) -> web.Application:
    """The routes, and errors as JSON."""
    app = web.Application(middlewares=[errors], client_max_size=_MOST_OCTETS)

    async def settled(request: web.Request) -> web.Response:
        try:
            report = read_settled(await request.read())
        except ValueError as error:
            return refusal(400, f"expected a report of what is settled: {error}")
        return await _taken(partial(agents.settled, report), request)

    app.router.add_post("/settled", settled)
    return app


async def _taken(take: Callable[[str], Future[str | None]], request: web.Request) -> web.Response:
    """Hand a report on, with the address that it came from, and answer whether it is believed."""
    assert request.remote is not None
    try:
        reason = await asyncio.wait_for(asyncio.wrap_future(take(request.remote)), _PATIENCE)
    except TimeoutError:
        return refusal(503, f"the controller's thread has not answered for {_PATIENCE:g} s")
    return web.Response(status=204) if reason is None else refusal(403, reason)
