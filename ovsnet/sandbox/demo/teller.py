"""What every chapter is told with: the sandbox, its commands, the screen, and the checks' tally."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ovsnet.controller.status import Status, read_status
from ovsnet.sandbox import access, entering
from ovsnet.sandbox.client import Client, Object
from ovsnet.sandbox.demo import application, control, probes
from ovsnet.sandbox.demo.checks import Check, Tally
from ovsnet.sandbox.demo.screen import Screen
from ovsnet.sandbox.layout import Layout
from ovsnet.sandbox.state import State

_PATIENCE_SECONDS = 30.0


def wait(condition: Callable[[], bool], seconds: float = _PATIENCE_SECONDS) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


class Teller:
    """One sandbox and those who watch. `state` is set when the sandbox is up."""

    def __init__(self, layout: Layout, screen: Screen, tally: Tally) -> None:
        self.layout = layout
        self.screen = screen
        self.state: State
        self._tally = tally

    def check(self, *checks: Check) -> None:
        """Count checks and show them."""
        self._tally.add(*checks)
        self.screen.checks(checks)

    def check_quietly(self, *checks: Check) -> None:
        """Count checks, and show only those that did not pass."""
        self._tally.add(*checks)
        self.screen.checks([check for check in checks if not check.passed])

    def api(self, *paths: str) -> list[Object]:
        """What the API server has at each of these paths."""

        async def ask() -> list[Object]:
            async with Client(access.of_file(self.layout.kubeconfig)) as client:
                return [await client.get(path) for path in paths]

        return asyncio.run(ask())

    @property
    def tls(self) -> ssl.SSLContext | None:
        """How one speaks TLS with the API server; None where it speaks none."""
        return access.of_file(self.layout.kubeconfig).tls

    def kubectl(self, *arguments: str) -> str:
        """Run kubectl. Raises ApplicationError with its own words if it fails."""
        return application.kubectl(self.layout, self.state, *arguments)

    def ovsnet(self, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """Run the command `ovsnet`, with `given` as its standard input."""
        return subprocess.run(
            [str(Path(sys.executable).with_name("ovsnet")), *arguments],
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )

    def dump(self, node: str, *options: str) -> str:
        """The flows of a node's switch, by ovs-ofctl."""
        place = entering.of_node(self.layout, self.state, node)
        done = subprocess.run(
            ["ovs-ofctl", "-O", "OpenFlow15", *options, "dump-flows", "br-int"],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **place.environment},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def status(self) -> Status | None:
        """What the controller says of itself; None while it does not answer."""
        try:
            return read_status(control.fetch(self.state, "/status").encode())
        except probes.UNANSWERED:
            return None
