"""`make test-kernel`: see README.md beside this file."""

from __future__ import annotations

import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from tests.conformance.programs import CANNOT_RUN, MissingError
from tests.kernel.image import Image, image
from tests.kernel.machine import Limits, MachineError, run
from tests.kernel.suites import SUITES, Suite

INTERRUPTED = 130
_ROOT = Path(__file__).parents[2]
_LOGS = _ROOT / "build" / "kernel"
_SLOW = 4
"""How many times longer tests wait there for what must come."""
_PYTEST = ("-m", "pytest", "-q", "--color=no", "-p", "no:cacheprovider", "-ra", "--tb=short")


def _number(variable: str, otherwise: int) -> int:
    text = os.environ.get(variable, "")
    if not text:
        return otherwise
    try:
        return max(1, int(text))
    except ValueError:
        raise MissingError(f"{variable}={text!r} is no number") from None


def _limits() -> Limits:
    return Limits(
        megabytes=_number("OVSNET_KERNEL_MEGABYTES", 4096),
        seconds=_number("OVSNET_KERNEL_SECONDS", 4 * 3600),
    )


def _run(found: Image, suite: Suite, limits: Limits, stop: threading.Event) -> bool:
    """Run one suite in a machine of its own; its output goes to a file. True if all passed."""
    log = _LOGS / f"{suite.name}.log"
    click.echo(f"{suite.name}: under way, {log}")
    environment = {
        "OVSNET_SANDBOX": "kernel",
        "OVSNET_TEST_SLOW": str(_SLOW),
        **dict(suite.environment),
    }
    command = [sys.executable, *_PYTEST, "--timeout=1200", *suite.tests]
    with log.open("wb") as output:
        try:
            status = run(found, command, _ROOT, environment, limits, output, stop)
        except MachineError as error:
            click.echo(f"{suite.name}: {error}")
            return False
    lines = log.read_text(errors="replace").strip().splitlines()
    for line in lines if status else lines[-1:]:
        click.echo(f"{suite.name}: {line}")
    return status == 0


def main() -> int:
    """Boot, run, tell."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if os.geteuid() != 0:
            raise MissingError("the machine is to read all of this one's files: run this as root")
        limits, at_once = _limits(), _number("OVSNET_KERNEL_MACHINES", os.cpu_count() or 1)
        found = image()
    except MissingError as error:
        click.echo(f"test-kernel: cannot run: {error}", err=True)
        return CANNOT_RUN
    asked = tuple(sys.argv[1:])
    suites = (Suite("asked", asked),) if asked else SUITES
    _LOGS.mkdir(parents=True, exist_ok=True)
    stop = threading.Event()
    with ThreadPoolExecutor(at_once) as pool:
        try:
            passed = list(pool.map(lambda suite: _run(found, suite, limits, stop), suites))
        except KeyboardInterrupt:
            stop.set()
            pool.shutdown(cancel_futures=True)
            return INTERRUPTED
    failed = [suite.name for suite, well in zip(suites, passed, strict=True) if not well]
    names = f": {', '.join(failed)}" if failed else ""
    click.echo(f"{len(suites) - len(failed)} suites passed, {len(failed)} failed{names}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
