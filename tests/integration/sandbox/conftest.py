"""Sandboxes of these tests: each has a name of its own, so it runs beside any other one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sandbox_runs import undisturbed
from slowness import SLOW

from ovsnet.sandbox import process, teardown
from ovsnet.sandbox.layout import INSTANCE_VARIABLE, layout

PROGRAM = (sys.executable, "-c", "from ovsnet.cli.sandbox import sandbox; sandbox()")


class Sandbox:
    """A sandbox, used as people use it: by its command line."""

    def __init__(self, name: str) -> None:
        self.layout = layout(name)
        self.environment = {**os.environ, INSTANCE_VARIABLE: name}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*PROGRAM, *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, status: int = 0) -> str:
        done = subprocess.run(
            [*PROGRAM, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, (done.stdout, done.stderr)
        return done.stdout + done.stderr

    def kubectl(self, *arguments: str) -> Any:
        return json.loads(self.run("kubectl", *arguments, "-o", "json"))

    def until(self, condition: Callable[[], Any], seconds: float = 30) -> Any:
        deadline = time.monotonic() + seconds * SLOW
        while not (found := condition()):
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.1)
        return found

    def logs(self) -> str:
        return "\n".join(
            f"--- {path.name}\n" + "\n".join(path.read_text().splitlines()[-15:])
            for path in sorted(self.layout.logs.glob("*"))
        )

    def nothing_left(self) -> bool:
        return (
            not process.marked(self.layout.root)
            and not teardown.namespaces(self.layout)
            and not self.layout.root.exists()
        )


@pytest.fixture(scope="module")
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """A sandbox that is not up; whatever a test leaves of it is taken away."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    module = request.module.__name__.rsplit("_", 1)[-1][:5]
    found = Sandbox(f"t{os.getpid()}{module}")
    try:
        yield found
    finally:
        with undisturbed():
            teardown.down(found.layout)
