"""Starts a control plane's programs one after the other, and ends with them."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from ovsnet import logs
from ovsnet.sandbox import access, netns
from ovsnet.sandbox.access import Access
from ovsnet.sandbox.client import UNREACHABLE, ApiError, Client
from ovsnet.sandbox.controlplane import commands, credentials, forward, programs
from ovsnet.sandbox.controlplane import options as planned
from ovsnet.sandbox.controlplane.options import API_SERVER, ETCD, Options

_PERIOD = 0.1
_READY_SECONDS = 120.0
_STOP_SECONDS = 20.0
_LAST_WORDS = 5

_log = logs.get("controlplane")


class ControlPlaneError(Exception):
    """The control plane did not start, or a program of it has ended. The text says which."""


class Child(msgspec.Struct, frozen=True):
    """A program that runs."""

    name: str
    process: asyncio.subprocess.Process
    log: Path

    def last_words(self) -> str:
        """The end of what it printed."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return "\n".join(lines[-_LAST_WORDS:])


async def supervise(options: Options, stop: asyncio.Event) -> None:
    """Run a control plane until `stop` is set.

    Raises:
        ControlPlaneError: it did not start, or one of its programs has ended.
        MissingProgramError: one of them is not there.
        OSError: a port is taken, a file cannot be written, or the namespace is not there.
    """
    paths = programs.find(Path(options.programs), (ETCD, API_SERVER, *options.run))
    listener = _listener(options)
    if options.netns:
        # For good: all programs are started from here.
        netns.enter(Path(options.netns))
    credentials.prepare(options, datetime.now(UTC))
    planned.logs(options.root).mkdir(parents=True, exist_ok=True)
    children: list[Child] = []
    try:
        await _until(stop, children, _run(options, paths, children, listener))
    finally:
        for child in reversed(children):
            await _end(child)


async def _run(
    options: Options,
    paths: dict[str, str],
    children: list[Child],
    listener: socket.socket | None,
) -> None:
    """Start everything, in order, and say when it answers; then wait for ever."""

    async def start(name: str, flags: commands.Flags) -> None:
        more = options.flags.get(name, ())
        children.append(await _start(options, name, commands.command(paths[name], flags, more)))

    client, peer = (f"http://127.0.0.1:{port}" for port in _free_ports(2))
    await start(ETCD, commands.etcd_flags(options, client, peer))
    # The API server waits for etcd only so long, and ends.
    await _wait(lambda: _answers(Access(client), "/health"), ETCD)
    await start(API_SERVER, commands.api_server_flags(options, client))
    now = datetime.now(UTC)
    ours = access.of_text(credentials.administrator(options.root, options.server, now))
    await _wait(lambda: _answers(ours, "/readyz"), API_SERVER)
    for name in options.run:
        await start(name, commands.controller_flags(options, name))
    if listener is not None:
        await forward.serve(listener, options.host, options.port)
    credentials.publish(options, now)
    _log.info("control plane answers", server=options.server, directory=options.directory)
    await asyncio.Event().wait()


async def _until(stop: asyncio.Event, children: Sequence[Child], work: Awaitable[None]) -> None:
    """Work until `stop` is set.

    Raises:
        ControlPlaneError: a program has ended. What `work` raises comes through.
    """

    async def ended() -> None:
        while all(child.process.returncode is None for child in children):
            await asyncio.sleep(_PERIOD)
        child = next(each for each in children if each.process.returncode is not None)
        raise ControlPlaneError(
            f"{child.name} has ended with {child.process.returncode}: {child.last_words()}"
        )

    tasks = [asyncio.ensure_future(each) for each in (stop.wait(), ended(), work)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _start(options: Options, name: str, command: Sequence[str]) -> Child:
    log = planned.logs(options.root) / f"{name}.log"
    with log.open("ab") as written:
        process = await asyncio.create_subprocess_exec(
            # However we end, it ends with us.
            *("setpriv", "--pdeathsig", "KILL", "--", *command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=written,
            stderr=written,
            cwd="/",
            # Ctrl-C is for us; they are ended in order.
            process_group=0,
        )
    _log.info("started", program=name, pid=process.pid)
    return Child(name, process, log)


async def _end(child: Child) -> None:
    with contextlib.suppress(ProcessLookupError):
        child.process.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(child.process.wait(), _STOP_SECONDS)
    except TimeoutError:
        _log.warning("does not end", program=child.name, pid=child.process.pid)
        child.process.kill()
        await child.process.wait()


async def _wait(answers: Callable[[], Awaitable[bool]], name: str) -> None:
    """Wait until a program answers."""
    try:
        async with asyncio.timeout(_READY_SECONDS):
            while not await answers():
                await asyncio.sleep(_PERIOD)
    except TimeoutError:
        raise ControlPlaneError(f"{name} does not answer after {_READY_SECONDS:g} s") from None


async def _answers(where: Access, path: str) -> bool:
    async with Client(where) as client:
        try:
            await client.text(path)
        except (ApiError, *UNREACHABLE):
            return False
    return True


def _listener(options: Options) -> socket.socket | None:
    return socket.create_server(("127.0.0.1", options.forward)) if options.forward else None


def _free_ports(count: int) -> list[int]:
    """TCP ports of 127.0.0.1 that nobody in this network namespace uses now."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
