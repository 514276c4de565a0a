"""`python -m ovsnet.sandbox.demo`: what `make demo` shows."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys

import click

from ovsnet.sandbox import plan, process, teardown
from ovsnet.sandbox.choosing import programs_option
from ovsnet.sandbox.client import UNREACHABLE, ApiError
from ovsnet.sandbox.demo import leftovers
from ovsnet.sandbox.demo.application import ApplicationError
from ovsnet.sandbox.demo.checks import Check, Tally
from ovsnet.sandbox.demo.screen import Screen
from ovsnet.sandbox.demo.story import Story
from ovsnet.sandbox.layout import Layout, LayoutError, from_environment
from ovsnet.sandbox.state import AlreadyRunningError, BusyError, ClusterError

_FAILED = 1
_BROKEN_OFF = (
    ApiError,
    ApplicationError,
    ClusterError,
    process.ProcessError,
    subprocess.SubprocessError,
    ValueError,
    *UNREACHABLE,
)
_INTERRUPTED = 130


def _tell(story: Story, nodes: int, programs: str, layout: Layout, tally: Tally) -> frozenset[str]:
    """Tell the story and take the sandbox away, whatever happens; the links that it had.

    Raises:
        ClusterError: there was no sandbox to tell it on.
    """
    story.up(nodes, programs)
    try:
        try:
            story.tell()
        except _BROKEN_OFF as error:
            tally.add(Check("the story was told to its end", passed=False, seen=str(error)))
        return leftovers.links_inside(layout)
    finally:
        # An impatient second interrupt must not leave half of it there.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        teardown.down(layout)


@click.command()
@click.option(
    "--nodes",
    type=click.IntRange(2, plan.MAX_NODES),
    default=3,
    show_default=True,
    help="How many nodes the sandbox has.",
)
@programs_option
def main(nodes: int, programs: str) -> None:
    """Start a sandbox, run an application on it, prove that its network works, take it away.

    Exit status 0: every check passed.
    """
    if shutil.which("kubectl") is None:
        raise click.ClickException(
            "kubectl is not installed; on Debian: apt-get install kubernetes-client"
        )
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    screen = Screen()
    tally = Tally()
    try:
        layout = from_environment()
        before = leftovers.look(layout)
        inside = _tell(Story(layout, screen, tally), nodes, programs, layout, tally)
    except (AlreadyRunningError, BusyError, ClusterError, LayoutError) as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        click.echo("\ninterrupted; the sandbox has been taken away", err=True)
        sys.exit(_INTERRUPTED)
    screen.section("Everything is taken away again")
    left = leftovers.checks(before, leftovers.look(layout), inside)
    tally.add(*left)
    screen.checks(left)
    if tally.failed:
        screen.section("What did not pass")
        screen.checks(tally.failed)
    screen.verdict(tally.verdict, tally.passed)
    sys.exit(0 if tally.passed else _FAILED)


if __name__ == "__main__":
    main()
