"""`ovsnet status`: the controller's view of the cluster, as tables or as JSON."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from ovsnet.cli import controller
from ovsnet.cli.tables import columns
from ovsnet.controller.status import (
    NodeStatus,
    PodDropped,
    PolicyComplaint,
    Status,
    WatchState,
    read_status,
)

if TYPE_CHECKING:
    from rich.table import Table

NOT_WELL = 1
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_MOST_DROPS = 20
_MOST_COMPLAINTS = 50


@click.command()
@controller.option
@click.option("--json", "as_json", is_flag=True, help="Print the controller's JSON.")
@click.option("--ports", is_flag=True, help="List the ports that were accepted, too.")
@click.option("--drops", is_flag=True, help="List the pods whose packets policies drop, too.")
def status(controller_url: str | None, as_json: bool, ports: bool, drops: bool) -> None:
    """Show nodes, their switches and their ports.

    For every node: the session with its switch, how many flows it is to have, up to which revision
    of them the switch has confirmed and up to which they are in effect, and its pods' ports. A port
    that the controller cannot match with a pod gets no flows; such ports are listed with the
    reason. So are policies that cannot be enforced as they stand.

    Exit status: 0 all is well; 1 something is not, which is said below the tables; 3 the
    controller cannot be reached.
    """
    target = controller.locate(controller_url)
    body = controller.fetch(target, "/status")
    try:
        document = read_status(body)
    except ValueError as error:
        raise controller.UnreachableError(
            f"{target} does not serve the status of an ovsnet controller: {error}"
        ) from error
    if as_json:
        sys.stdout.buffer.write(body.rstrip() + b"\n")
    else:
        show(document, datetime.now(UTC), ports, drops)
    if document.problems():
        sys.exit(NOT_WELL)


def show(document: Status, now: datetime, ports: bool, drops: bool) -> None:
    """Print the tables."""
    from rich.console import Console  # noqa: PLC0415  not for --json
    from rich.markup import escape  # noqa: PLC0415

    console = Console(highlight=False, soft_wrap=True)
    age = ago(document.started, now)
    term = f", term {document.generation}" if document.generation else ""
    console.print(f"controller {escape(document.version)}, running for {age}{term}")
    console.print(escape("API server: " + "; ".join(watch_lines(document, now))))
    for title, table in tables(document.nodes, now, ports):
        console.print(f"\n[bold]{title}[/bold]")
        console.print(table)
    if drops:
        console.print("\n[bold]Dropped by policy[/bold]")
        console.print(_drops(document.drops) if document.drops else "nothing")
        if len(document.drops) > _MOST_DROPS:
            console.print(f"and {len(document.drops) - _MOST_DROPS} more: --json has all")
    if document.policies:
        console.print("\n[bold]Policies that are not enforced as they stand[/bold]")
        console.print(_complaints(document.policies))
        if len(document.policies) > _MOST_COMPLAINTS:
            console.print(f"and {len(document.policies) - _MOST_COMPLAINTS} more: --json has all")
    problems = document.problems()
    console.print()
    for problem in problems:
        console.print(escape(f"not well: {problem}"))
    if not problems:
        console.print("all is well")


def watch_lines(document: Status, now: datetime) -> list[str]:
    """What is known of each kind of objects."""
    lines = []
    for watch in document.watches:
        if watch.state is WatchState.STALE:
            lines.append(f"{watch.kind} stale for {ago(watch.since, now)}")
        elif watch.state is WatchState.LISTING:
            lines.append(f"{watch.kind} not yet listed")
        else:
            lines.append(f"{watch.objects} {watch.kind} objects")
    return lines or ["nothing is watched"]


def tables(nodes: Sequence[NodeStatus], now: datetime, ports: bool) -> list[tuple[str, Table]]:
    """The tables with their titles: nodes always, ports where there are any to show."""
    found = [("Nodes", _nodes(nodes, now))]
    if ports and any(node.ports for node in nodes):
        found.append(("Ports", _ports(nodes)))
    if any(node.refused for node in nodes):
        found.append(("Refused ports", _refused(nodes, now)))
    return found


def _nodes(nodes: Sequence[NodeStatus], now: datetime) -> Table:
    from rich.text import Text  # noqa: PLC0415

    table = columns(
        "Node", "Session", "Since", "Datapath", "Flows", "Desired", "Acknowledged", "Settled",
        "Pods", "Refused",
    )  # fmt: skip
    for node in nodes:
        revision = node.revision
        table.add_row(
            Text(node.name),
            Text(node.session, style="" if node.connected else "red"),
            ago(node.since, now),
            Text(node.datapath or "-"),
            str(node.flows),
            str(revision.desired),
            Text(_number(revision.acknowledged), style="" if revision.current else "yellow"),
            Text(_number(revision.settled), style="" if revision.in_effect else "yellow"),
            str(len(node.ports)),
            Text(str(len(node.refused)), style="red" if node.refused else ""),
        )
    return table


def _number(revision: int | None) -> str:
    return "-" if revision is None else str(revision)


def _ports(nodes: Sequence[NodeStatus]) -> Table:
    from rich.text import Text  # noqa: PLC0415

    table = columns("Node", "Port", "Pod", "Addresses")
    for node in nodes:
        for port in node.ports:
            addresses = " ".join(port.addresses)
            table.add_row(Text(node.name), Text(port.name), Text(port.pod), Text(addresses))
    return table


def _refused(nodes: Sequence[NodeStatus], now: datetime) -> Table:
    from rich.text import Text  # noqa: PLC0415

    table = columns("Node", "Port", "Address", "Reason", "Fits", "Since")
    for node in nodes:
        for port in node.refused:
            table.add_row(
                Text(node.name),
                Text(port.name),
                Text(port.address or "-"),
                Text(port.reason),
                Text(" ".join(port.pods) or "-"),
                ago(port.since, now),
            )
    return table


def _drops(drops: Sequence[PodDropped]) -> Table:
    from rich.text import Text  # noqa: PLC0415

    table = columns("Pod", "Node", "Direction", "Packets", "Policies")
    for each in drops[:_MOST_DROPS]:
        table.add_row(
            Text(each.pod),
            Text(each.node),
            Text(each.direction),
            str(each.packets),
            Text(" ".join(each.policies)),
        )
    return table


def _complaints(complaints: Sequence[PolicyComplaint]) -> Table:
    from rich.text import Text  # noqa: PLC0415

    table = columns("Policy", "Field", "Reason")
    for each in complaints[:_MOST_COMPLAINTS]:
        table.add_row(Text(each.policy), Text(each.field), Text(each.reason))
    return table


def ago(then: datetime | None, now: datetime) -> str:
    """How long ago, in the largest unit that fits, as kubectl writes ages."""
    if then is None:
        return "-"
    seconds = int(max(now - then, timedelta()).total_seconds())
    for unit, letter in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "m")):
        if seconds >= 2 * unit:
            return f"{seconds // unit}{letter}"
    return f"{seconds}s"
