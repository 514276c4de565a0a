"""A sandbox whose start is interrupted, at every step that it reports."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from slowness import SLOW

from tests.integration.sandbox.conftest import Sandbox

STEPS = ("making the fabric", "starting the API server", "starting controller", "waiting for")


def interrupt(sandbox: Sandbox, step: str, how: signal.Signals) -> subprocess.Popen[str]:
    """Start a sandbox and send its `up` a signal when it reports this step."""
    process = sandbox.start("up", "--nodes", "2")
    assert process.stderr is not None
    said: list[str] = []
    for line in process.stderr:
        said.append(line)
        if step in line:
            process.send_signal(how)
            break
    else:
        pytest.fail(f"`up` never said {step!r}, but: {''.join(said)}")
    process.communicate(timeout=60 * SLOW)
    return process


@pytest.mark.parametrize("step", STEPS)
def test_an_interrupted_start_takes_away_what_it_made(sandbox: Sandbox, step: str) -> None:
    how = signal.SIGTERM if step == STEPS[1] else signal.SIGINT
    assert interrupt(sandbox, step, how).returncode == 130
    assert sandbox.nothing_left()


@pytest.mark.parametrize("step", STEPS)
def test_what_a_killed_start_left_is_found(sandbox: Sandbox, step: str) -> None:
    assert interrupt(sandbox, step, signal.SIGKILL).returncode == -signal.SIGKILL
    assert not sandbox.nothing_left()
    assert "interrupted" in sandbox.run("status", status=3)
    sandbox.run("down")
    assert sandbox.nothing_left()


def test_a_start_clears_away_what_a_killed_one_left(sandbox: Sandbox) -> None:
    interrupt(sandbox, STEPS[2], signal.SIGKILL)
    sandbox.run("up", "--nodes", "1")
    assert "is gone" in sandbox.run("down")
    assert sandbox.nothing_left()


def test_a_start_that_fails_says_why_and_leaves_nothing(
    sandbox: Sandbox,
) -> None:
    # The controller's port is taken: it ends at once, and the sandbox cannot come up.
    program = (
        "from ovsnet.sandbox import cluster; cluster.OPENFLOW_PORT = 6443;"
        "from ovsnet.cli.sandbox import sandbox; sandbox()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "up", "--nodes", "1"],
        env=sandbox.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "controller has ended" in done.stderr
    assert sandbox.nothing_left()
