"""`ovsnet plan`: what network policies would change, before they are applied."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from ovsnet.cli import controller
from ovsnet.cli.policyfiles import FileError, as_json, policies
from ovsnet.cli.tables import columns
from ovsnet.controller.inquiry.plan import Cut, FlowChanges, Plan, Proposed, Shift, read_plan
from ovsnet.model import Protocol
from ovsnet.policy.spans import Ports

if TYPE_CHECKING:
    from rich.table import Table

NOT_WHOLE = 1
_SECONDS = 600.0
_MOST_NAMES = 4
_MOST_ROWS = 40
_WIDE = 1000
_EVERYTHING = {*map(str, Protocol), str(Ports(None))}


@click.command()
@controller.option
@click.option("--json", "as_json_", is_flag=True, help="Print the controller's JSON.")
@click.option("--delete", is_flag=True, help="Plan to delete the policies instead.")
@click.option(
    "-n",
    "--namespace",
    default="default",
    show_default=True,
    help="The namespace of policies that name none.",
)
@click.argument(
    "files",
    metavar="FILE...",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    nargs=-1,
    required=True,
)
def plan(
    controller_url: str | None,
    as_json_: bool,
    delete: bool,
    namespace: str,
    files: Sequence[str],
) -> None:
    """Say what network policies would change if they were applied. Nothing is changed.

    FILEs have NetworkPolicies in YAML or JSON, several in one or in lists; `-` is standard input.
    Shown are the ends that become able to reach each other or lose that, with protocols and ports;
    live connections that would be cut; and how many flows change on every node. Parts of a policy
    that the network cannot do as they say are shown, too: they allow nothing.

    Exit status: 0 done; 1 the plan is not whole, as a policy has such parts or a node has not told
    its live connections; 2 wrong usage, or a file with something else in it; 3 the controller
    cannot be reached.
    """
    found = [policy for file in files for policy in policies(_text(file), file, namespace)]
    if not found:
        raise FileError(f"there is no NetworkPolicy in {', '.join(files)}")
    target = controller.locate(controller_url)
    body = controller.fetch(target, "/plan", _SECONDS, as_json(found, delete))
    try:
        document = read_plan(body)
    except ValueError as error:
        raise controller.UnreachableError(
            f"{target} does not answer as an ovsnet controller does: {error}"
        ) from error
    if as_json_:
        sys.stdout.buffer.write(body.rstrip() + b"\n")
    else:
        show(document)
    if document.silent or any(policy.faults for policy in document.policies):
        sys.exit(NOT_WHOLE)


def _text(file: str) -> bytes:
    try:
        with click.open_file(file, "rb") as opened:
            text: bytes = opened.read()
            return text
    except OSError as error:
        raise FileError(f"{file} cannot be read: {error.strerror}") from error


def show(document: Plan) -> None:
    """Print the tables."""
    from rich.console import Console  # noqa: PLC0415  not for --json
    from rich.markup import escape  # noqa: PLC0415

    # Into a file or pipe every row goes on one line.
    width = None if sys.stdout.isatty() else _WIDE
    console = Console(highlight=False, soft_wrap=True, width=width)
    for title, table, nothing in tables(document):
        console.print(f"[bold]{title}[/bold]")
        console.print(table if table.row_count else nothing)
        console.print()
    for line in warnings(document):
        console.print(escape(line), style="red")
    console.print("nothing has been changed")


def tables(document: Plan) -> Iterator[tuple[str, Table, str]]:
    """The tables with their titles, and what to say in the place of an empty one."""
    yield "Policies", _policies(document.policies), "none"
    yield "Would become allowed", _shifts(document.allowed), "nothing"
    yield "Would become denied", _shifts(document.denied), "nothing"
    unknown = " that is known of" if document.silent else ""
    yield "Live connections that would be cut", _cut(document.cut), f"none{unknown}"
    yield "Flow changes", _flows(document.flows), "none"


def warnings(document: Plan) -> Iterator[str]:
    """What makes the plan less than whole, and rows that were left out."""
    for policy in document.policies:
        for fault in policy.faults:
            yield f"{policy.name}: {fault.field}: {fault.reason}"
    for silent in document.silent:
        yield f"{silent.node} has not told its live connections: {silent.reason}"
    for rows in (document.allowed, document.denied, document.cut, document.flows):
        if len(rows) > _MOST_ROWS:
            yield "some rows were left out: --json has all"
            return


def _policies(found: Sequence[Proposed]) -> Table:
    from rich.text import Text  # noqa: PLC0415

    table = columns("Policy", "Action", "Pods", "Faults")
    for policy in found:
        faults = Text(str(len(policy.faults) or "-"), style="red" if policy.faults else "")
        table.add_row(Text(policy.name), str(policy.action), str(policy.pods), faults)
    return table


def _shifts(shifts: Sequence[Shift]) -> Table:
    from rich.text import Text  # noqa: PLC0415

    table = columns("From", "To", "Traffic", "Families", "Pairs")
    for shift in shifts[:_MOST_ROWS]:
        table.add_row(
            Text(some(shift.sources)),
            Text(some(shift.destinations)),
            traffic(shift.traffic),
            " ".join(shift.families),
            str(shift.pairs),
        )
    return table


def traffic(found: Sequence[Ports]) -> str:
    """Protocols with their ports, in words."""
    texts = list(map(str, found))
    return "everything" if set(texts) == _EVERYTHING else "; ".join(texts)


def _cut(cut: Sequence[Cut]) -> Table:
    from rich.text import Text  # noqa: PLC0415

    table = columns("Protocol", "From", "To", "Port")
    for each in cut[:_MOST_ROWS]:
        table.add_row(
            each.protocol,
            Text(_end(each.source, each.source_pod)),
            Text(_end(each.destination, each.destination_pod)),
            "-" if each.port is None else str(each.port),
        )
    return table


def _end(address: str, pod: str) -> str:
    return f"{pod} ({address})" if pod else address


def _flows(changes: Sequence[FlowChanges]) -> Table:
    from rich.text import Text  # noqa: PLC0415

    table = columns("Node", "Added", "Changed", "Deleted")
    for each in changes[:_MOST_ROWS]:
        table.add_row(Text(each.node), str(each.added), str(each.changed), str(each.deleted))
    return table


def some(names: Sequence[str]) -> str:
    """A few of many names."""
    if len(names) <= _MOST_NAMES:
        return ", ".join(names)
    few = names[: _MOST_NAMES - 1]
    return f"{', '.join(few)} and {len(names) - len(few)} more"
