"""The port on which the controller hears from agents, and they from it.

    POST /settled       {"node": "node-1", "digest": "1f…", "serial": 7}
    GET  /requests?node=node-1      200 {"question": 3, "want": "connections"}, or 204: ask again
    POST /connections   {"node": "node-1", "question": 3, "connections": [[6, "10.…", …], …]}

An agent is believed about the node that its certificate names, over plain HTTP about the node whose
address it speaks from, and about no other. For its certificate it comes without one:

    POST /certificate   see `ovsnet.controller.trust.issuer`
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Protocol

import msgspec
from aiohttp import web

from ovsnet.controller.brain import Brain
from ovsnet.controller.listener import JSON, Handler, Listener, errors, refusal
from ovsnet.controller.live import Questions, read_told
from ovsnet.controller.loop import Question
from ovsnet.controller.reports import Settled, Speaker, read_settled
from ovsnet.controller.results import ReportRefused, Result
from ovsnet.controller.trust.door import certificate_of
from ovsnet.controller.trust.issuer import RefusedError
from ovsnet.controller.trust.peers import peer_of
from ovsnet.controller.trust.refusals import TellRefusal

_MOST_OCTETS = 16 << 20
_PATIENCE = 5.0

_POLL_SECONDS = 20.0
"""So long an agent waits for a question before it is told that there is none."""


_ISSUES = "/certificate"
_MOST_AT_ONCE = 8
"""Requests for certificates that are considered at a time; others wait for their turn."""

_MOST_REQUEST_OCTETS = 1 << 16

Issue = Callable[[bytes], bytes]
"""As `Security.issue`."""


class Security(Protocol):
    """What HTTPS is served with, and who gives agents their certificates; `trust.office` does."""

    def agents(self) -> ssl.SSLContext | None:
        """TLS for a new connection; None while there is nothing yet."""

    def issue(self, body: bytes) -> bytes:
        """Answer a request for a certificate; may take its time, and raise RefusedError."""


class LoopThread(Protocol):
    """Who works in the loop's thread; `ovsnet.controller.loop.Loop` does."""

    def ask(self, question: Question) -> None:
        """Put a question to the brain there, and carry out what comes of it."""


class Agents:
    """Passes on to the brain what agents report, and to agents what they are asked."""

    def __init__(self, brain: Brain, loop: LoopThread) -> None:
        self._brain = brain
        self._loop = loop
        self.questions = Questions()

    def settled(self, report: Settled, speaker: Speaker) -> Future[str | None]:
        """Take a report in; the result is why it is not believed, or None. From any thread."""
        return self._ask(partial(self._brain.reported, report, speaker))

    def known(self, node: str, speaker: Speaker) -> Future[str | None]:
        """Why this one is not the node's agent, or None. From any thread."""
        return self._ask(lambda _: self._brain.vouch(node, speaker))

    def _ask(self, question: Question) -> Future[str | None]:
        answer: Future[str | None] = Future()

        def ask(now: float) -> list[Result]:
            # Nobody waits any more if this has waited for too long itself.
            wanted = answer.set_running_or_notify_cancel()
            try:
                results = question(now)
            except Exception as error:
                if wanted:
                    answer.set_exception(error)
                raise
            refused = [r.reason for r in results if isinstance(r, ReportRefused)]
            if wanted:
                answer.set_result(refused[0] if refused else None)
            return results

        self._loop.ask(ask)
        return answer


class AgentsServer(Listener):
    """Serves agents while its context lasts."""

    def __init__(
        self,
        address: tuple[str, int],
        agents: Agents,
        security: Security | None = None,
        refused: TellRefusal = lambda _: None,
    ) -> None:
        """Bind to `address`; port 0 takes a free one. Without `security` it is plain HTTP; with it,
        `refused` is called for each whose certificate is not taken.

        Raises:
            OSError: the address is taken, or not one of ours.
        """
        issue = security.issue if security else None
        tls = security.agents if security else None
        super().__init__(address, lambda: application(agents, issue=issue), "agents", tls, refused)


def application(
    agents: Agents, poll_seconds: float = _POLL_SECONDS, issue: Issue | None = None
) -> web.Application:
    """The routes, and errors as JSON. With `issue` an agent must have a certificate, or ask for
    one.
    """
    middlewares = [errors] if issue is None else [errors, _certified]
    app = web.Application(middlewares=middlewares, client_max_size=_MOST_OCTETS)
    questions = agents.questions

    async def settled(request: web.Request) -> web.Response:
        try:
            report = read_settled(await request.read())
        except ValueError as error:
            return refusal(400, f"expected a report of what is settled: {error}")
        return await _verdict(agents.settled(report, _speaker(request)))

    async def requests(request: web.Request) -> web.Response:
        node = request.query.get("node", "")
        answer = await _verdict(agents.known(node, _speaker(request)))
        if answer.status >= 400:
            return answer
        waiting = questions.wait(node)
        try:
            number = await asyncio.wait_for(asyncio.wrap_future(waiting), poll_seconds)
        except TimeoutError:
            number = None
        finally:
            questions.leave(node, waiting)
        if number is None:
            return web.Response(status=204)
        body = msgspec.json.encode({"question": number, "want": "connections"})
        return web.Response(body=body, content_type=JSON)

    async def connections(request: web.Request) -> web.Response:
        try:
            told = read_told(await request.read())
        except ValueError as error:
            return refusal(400, f"expected live connections: {error}")
        answer = await _verdict(agents.known(told.node, _speaker(request)))
        if answer.status < 400:
            try:
                questions.told(told)
            except ValueError as error:
                return refusal(400, f"expected live connections: {error}")
        return answer

    app.router.add_post("/settled", settled)
    app.router.add_get("/requests", requests)
    app.router.add_post("/connections", connections)
    if issue is not None:
        app.router.add_post(_ISSUES, _certificates(issue))
    return app


def _certificates(issue: Issue) -> Handler:
    at_once = asyncio.Semaphore(_MOST_AT_ONCE)

    async def certificate(request: web.Request) -> web.Response:
        body = bytearray()
        async for chunk in request.content.iter_any():
            body += chunk
            if len(body) > _MOST_REQUEST_OCTETS:
                return refusal(413, f"expected at most {_MOST_REQUEST_OCTETS} octets")
        async with at_once:
            try:
                issued = await asyncio.to_thread(issue, bytes(body))
            except RefusedError as error:
                return refusal(error.status, str(error))
        return web.Response(body=issued, content_type=JSON)

    return certificate


@web.middleware
async def _certified(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Lets nobody pass without a node's certificate but those who come for one."""
    if request.path != _ISSUES:
        peer = peer_of(certificate_of(request.transport))
        if peer is None or time.time() > peer.until:
            return refusal(401, f"expected a node's certificate; POST {_ISSUES} gives one")
    return await handler(request)


def _speaker(request: web.Request) -> Speaker:
    assert request.remote is not None
    peer = peer_of(certificate_of(request.transport))
    return Speaker(request.remote, peer.node if peer else None)


async def _verdict(objection: Future[str | None]) -> web.Response:
    """The answer to an agent that is believed (204), or to one that is not."""
    try:
        reason = await asyncio.wait_for(asyncio.wrap_future(objection), _PATIENCE)
    except TimeoutError:
        return refusal(503, f"the controller's thread has not answered for {_PATIENCE:g} s")
    return web.Response(status=204) if reason is None else refusal(403, reason)
