"""`python -m ovsnet.sandbox.demo`: what `make demo` shows."""

from __future__ import annotations

import signal
import sys

import click

from ovsnet.sandbox import plan, process, teardown
from ovsnet.sandbox.demo import leftovers
from ovsnet.sandbox.demo.application import ApplicationError
from ovsnet.sandbox.demo.checks import Check, Tally
from ovsnet.sandbox.demo.screen import Screen
from ovsnet.sandbox.demo.story import Story
from ovsnet.sandbox.layout import LayoutError, from_environment
from ovsnet.sandbox.state import AlreadyRunningError, BusyError, ClusterError

_FAILED = 1
_INTERRUPTED = 130


@click.command()
@click.option(
    "--nodes",
    type=click.IntRange(2, plan.MAX_NODES),
    default=3,
    show_default=True,
    help="How many nodes the sandbox has.",
)
def main(nodes: int) -> None:
    """Start a sandbox, run an application on it, prove that its network works, take it away.

    Exit status 0: every check passed.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    screen = Screen()
    tally = Tally()
    try:
        layout = from_environment()
        before = leftovers.look(layout)
        story = Story(layout, screen, tally)
        try:
            story.up(nodes)
            story.tell()
        except ApplicationError as error:
            tally.add(Check("the application runs", passed=False, seen=str(error)))
            screen.say(str(error))
        except process.ProcessError as error:
            tally.add(Check("the controller starts again", passed=False, seen=str(error)))
            screen.say(str(error))
        finally:
            inside = leftovers.links_inside(layout)
            if story.started:
                teardown.down(layout)
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
