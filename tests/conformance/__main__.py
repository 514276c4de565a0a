"""`make conformance`: see README.md beside this file."""

from __future__ import annotations

import fcntl
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from ovsnet.sandbox import teardown
from ovsnet.sandbox.cluster import check_machine
from ovsnet.sandbox.state import ClusterError
from tests.conformance import golang
from tests.conformance.cluster import INSTANCE
from tests.conformance.golang import MissingError

CANNOT_RUN = 77
"""Exit status by which test programs say that they were skipped (automake's convention)."""
INTERRUPTED = 130
_HERE = Path(__file__).parent
_NEEDED = {
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "iptables": "iptables",
    "tc": "iproute2",
    "ping": "iputils-ping",
}


class Tally:
    """A pytest plugin that counts tests."""

    def __init__(self) -> None:
        self._failed: set[str] = set()
        self._passed: set[str] = set()

    def pytest_runtest_logreport(self, report: Any) -> None:
        """A test has passed if it did, and its set-up and clean-up too."""
        if report.failed:
            self._failed.add(report.nodeid)
        elif report.when == "call" and report.passed:
            self._passed.add(report.nodeid)

    @property
    def text(self) -> str:
        """The last line."""
        return f"{len(self._passed - self._failed)} passed, {len(self._failed)} failed"


def _require() -> None:
    check_machine()
    missing = {name: package for name, package in _NEEDED.items() if not shutil.which(name)}
    if missing:
        packages = " ".join(sorted(set(missing.values())))
        raise MissingError(f"not installed: {', '.join(missing)}; apt-get install {packages}")
    golang.build()


def main() -> int:
    """Build, run, count."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    golang.cache().mkdir(parents=True, exist_ok=True)
    with (golang.cache() / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _require()
        except BlockingIOError:
            click.echo("conformance: another run is under way", err=True)
            return CANNOT_RUN
        except (MissingError, ClusterError) as error:
            click.echo(f"conformance: cannot run: {error}", err=True)
            return CANNOT_RUN
        except KeyboardInterrupt:
            return INTERRUPTED
        tally = Tally()
        options = ["-q", "-p", "no:cacheprovider", "--timeout=120", *sys.argv[1:]]
        try:
            status = pytest.main([str(_HERE), *options], plugins=[tally])
        finally:
            # If the tests were interrupted twice, their own clean-up was too.
            teardown.down(INSTANCE)
        click.echo(tally.text)
    return INTERRUPTED if status is pytest.ExitCode.INTERRUPTED else int(status)


if __name__ == "__main__":
    sys.exit(main())
