"""A sandbox's processes for tests: they are killed and started, and say what they say."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lab_nodes import NodeSide
from places import wait_for
from programs import AGENT_THAT_DIES

from ovsnet.sandbox import cluster, process

WITHOUT_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass
class ProcessSide(NodeSide):
    """One sandbox, by its processes."""

    def pid(self, name: str) -> int:
        return process.known(self.layout, name).pid

    def kill(self, name: str, how: signal.Signals = signal.SIGKILL) -> None:
        process.end(process.known(self.layout, name), how, wait=how is signal.SIGKILL)

    def start(self, name: str) -> None:
        cluster.start_process(self.layout, name)

    def restart_with(self, name: str, *command: str) -> None:
        """Kill a process if it runs and start it with another command."""
        record = process.known(self.layout, name)
        process.end(record)
        process.start(self.layout, process.Spec(name, command, record.spec.netns))

    def command(self, name: str) -> tuple[str, ...]:
        return process.known(self.layout, name).spec.command

    def agent_that_dies_at(self, name: str, step: str) -> None:
        file = str(self.layout.node(name).agent / "agent.toml")
        program = AGENT_THAT_DIES.format(step=step, file=file)
        self.restart_with(f"agent-{name}", sys.executable, "-c", program)

    def alive(self, name: str) -> bool:
        return process.alive(process.known(self.layout, name))

    @contextlib.contextmanager
    def stopped(self, name: str) -> Iterator[None]:
        """Without a process, for as long as this lasts."""
        self.kill(name)
        try:
            yield
        finally:
            if not self.alive(name):
                self.start(name)

    def log(self, name: str, since: int = 0) -> str:
        path = process.log_path(self.layout, name)
        return path.read_bytes()[since:].decode(errors="replace") if path.exists() else ""

    def log_size(self, name: str) -> int:
        path = process.log_path(self.layout, name)
        return path.stat().st_size if path.exists() else 0

    def wait_for_log(self, name: str, pattern: str, since: int) -> str:
        def found() -> str:
            line = re.search(f".*{pattern}.*", self.log(name, since))
            return line[0] if line else ""

        return wait_for(found, f"{name} to log {pattern!r}")

    def status(self) -> dict[str, Any]:
        """What the controller says of itself."""
        document: dict[str, Any] = json.loads(self._ask_controller("/status"))
        return document

    def metric(self, sample: str) -> float:
        """One of the controller's samples, named with its labels; 0 if there is none."""
        lines = self._ask_controller("/metrics").decode().splitlines()
        found = [line.rpartition(" ")[2] for line in lines if line.startswith(f"{sample} ")]
        return float(found[0]) if found else 0.0

    def _ask_controller(self, path: str) -> bytes:
        def ask() -> bytes:
            with WITHOUT_PROXY.open(f"{self.state.controller.url}{path}", timeout=5) as answer:
                return bytes(answer.read())

        return self.control.within(ask)

    def wait_until_steady(self) -> None:
        """Wait until the controller has confirmed every switch to be as it should be."""

        def steady() -> bool:
            with contextlib.suppress(OSError):
                nodes = self.status()["nodes"]
                return bool(nodes) and all(
                    node["session"] == "steady"
                    and node["revision"]["acknowledged"] == node["revision"]["desired"]
                    for node in nodes
                    if node["name"] in self.nodes
                )
            return False

        wait_for(steady, "the controller to be in step with all switches")

    def compare_all(self) -> None:
        """Have the controller compare all flows, and put right what differs."""
        self.kill("controller")
        self.start("controller")
        self.wait_until_steady()
