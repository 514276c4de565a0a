"""The demonstration, from its first line to its last, and interrupted in between."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys

import pytest
from slowness import SLOW

from tests.integration.sandbox.conftest import Sandbox

pytestmark = [
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is missing"),
    # On a real API server it takes its time.
    pytest.mark.timeout(300 * SLOW),
]


def start(sandbox: Sandbox) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "ovsnet.sandbox.demo", "--nodes", "2"],
        env=sandbox.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_every_check_passes_and_nothing_is_left(sandbox: Sandbox) -> None:
    process = start(sandbox)
    output, _ = process.communicate(timeout=280 * SLOW)
    verdict = re.fullmatch(r"demo: (\d+)/(\d+) checks passed", output.strip().splitlines()[-1])
    assert verdict is not None, output
    assert verdict[1] == verdict[2], output
    assert int(verdict[2]) > 100
    for words in ("ovsnet plan deploy", "ovsnet why shop", ": allowed", ": denied"):
        assert words in output
    assert process.returncode == 0
    assert sandbox.nothing_left()


def test_an_interrupted_demonstration_takes_everything_away(sandbox: Sandbox) -> None:
    process = start(sandbox)
    assert process.stdout is not None
    for line in process.stdout:
        if "Who reaches whom" in line:
            break
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60 * SLOW)
    assert process.returncode == 130
    assert "taken away" in output
    assert sandbox.nothing_left()
