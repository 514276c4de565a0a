"""`ovsnet status`: the controller's view of the cluster, as tables or as JSON."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

import click

from ovsnet.cli import controller
from ovsnet.cli.complaints import show_complaints
from ovsnet.cli.tables import columns
from ovsnet.cli.waiting import NotInEffectError, Waiting
from ovsnet.controller.status import (
    NodeStatus,
    PodDropped,
    Status,
    WatchState,
    read_refresh,
    read_status,
)

if TYPE_CHECKING:
    from rich.table import Table

T = TypeVar("T")

NOT_WELL = 1
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_MOST_DROPS = 20


class Version(click.ParamType[tuple[str, int]]):
    """KIND=VERSION, the version a decimal number."""

    name = "kind=version"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        """The kind and the version."""
        kind, _, version = value.partition("=")
        if not kind or not (version.isascii() and version.isdecimal()):
            self.fail(f"{value!r}: expected KIND=VERSION, such as NetworkPolicy=1234", param, ctx)
        return kind, int(version)


@click.command()
@controller.option
@click.option("--json", "as_json", is_flag=True, help="Print the controller's JSON.")
@click.option("--ports", is_flag=True, help="List the ports that were accepted, too.")
@click.option("--drops", is_flag=True, help="List the pods whose packets policies drop, too.")
@click.option(
    "--wait",
    is_flag=True,
    help="First wait until all that the API server was told before is in effect on every node.",
)
@click.option(
    "--version",
    "versions",
    type=Version(),
    multiple=True,
    help="With --wait, wait for an object's resourceVersion, as in NetworkPolicy=1234; else the "
    "controller reads all objects anew. May be given several times.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long --wait waits.",
)
def status(
    *,
    controller_url: str | None,
    as_json: bool,
    ports: bool,
    drops: bool,
    wait: bool,
    versions: tuple[tuple[str, int], ...],
    timeout: float,
) -> None:
    """Show nodes, their switches and their ports.

    Where there are several controllers, one leads, and the others stand by: they say which one
    leads, and how to ask it.

    For every node: the session with its switch, how many flows it is to have, up to which revision
    of them the switch has confirmed and up to which they are in effect, and its pods' ports. A port
    that the controller cannot match with a pod gets no flows; such ports are listed with the
    reason. So are policies that cannot be enforced as they stand, and services that cannot be
    served.

    Exit status: 0 all is well; 1 something is not, which is said below the tables; 3 the
    controller cannot be reached. With --wait: 0 all is in effect on every node; 1 it is not within
    the time. A switch that is not connected is waited for 10 s, and then no longer.
    """
    if versions and not wait:
        raise click.UsageError("--version is for --wait")
    asked = _Asked(controller.locate(controller_url))
    in_effect = True
    try:
        document = _waited(asked, dict(versions), timeout) if wait else asked.status()
    except NotInEffectError as error:
        document, in_effect = asked.status(), False
        for missing in error.missing:
            click.echo(f"not in effect after {timeout:g} s: {missing}", err=True)
    if as_json:
        sys.stdout.buffer.write(asked.body.rstrip() + b"\n")
    else:
        show(document, datetime.now(UTC), ports, drops)
    if not in_effect or (document.problems() and not wait):
        sys.exit(NOT_WELL)


class _Asked:
    """The controller, asked over HTTP; `body` is its last status as it came."""

    def __init__(self, target: controller.Target) -> None:
        self._target = target
        self.body = b""

    def status(self) -> Status:
        """What it serves at /status."""
        self.body = controller.fetch(self._target, "/status")
        return self._read(read_status, self.body)

    def refresh(self) -> int:
        """Have it list all objects afresh."""
        return self._read(read_refresh, controller.fetch(self._target, "/refresh", body=b""))

    def _read(self, read: Callable[[bytes], T], body: bytes) -> T:
        try:
            return read(body)
        except ValueError as error:
            raise controller.UnreachableError(
                f"{self._target} does not serve the status of an ovsnet controller: {error}"
            ) from error


def _waited(asked: _Asked, versions: Mapping[str, int], seconds: float) -> Status:
    if versions:
        kinds = {watch.kind for watch in asked.status().watches}
        for kind in versions.keys() - kinds:
            expected = ", ".join(sorted(kinds))
            raise click.BadParameter(
                f"{kind!r} objects are not watched: expected one of {expected}",
                param_hint="--version",
            )

    def tell(missing: Sequence[str]) -> None:
        others = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        click.echo(f"waiting: {missing[0]}{others}", err=True)

    document = Waiting(asked, versions, tell).run(seconds)
    for node in document.nodes:
        if not node.connected:
            click.echo(f"not waited for: {node.name}, its switch is not connected", err=True)
    return document


def show(document: Status, now: datetime, ports: bool, drops: bool) -> None:
    """Print the tables."""
    from rich.console import Console  # noqa: PLC0415  not for --json
    from rich.markup import escape  # noqa: PLC0415

    console = Console(highlight=False, soft_wrap=True)
    age = ago(document.started, now)
    leads = escape(leadership(document, now))
    console.print(f"controller {escape(document.version)}, running for {age}{leads}")
    console.print(escape("API server: " + "; ".join(watch_lines(document, now))))
    for title, table in tables(document.nodes, now, ports):
        console.print(f"\n[bold]{title}[/bold]")
        console.print(table)
    if drops:
        console.print("\n[bold]Dropped by policy[/bold]")
        console.print(_drops(document.drops) if document.drops else "nothing")
        if len(document.drops) > _MOST_DROPS:
            console.print(f"and {len(document.drops) - _MOST_DROPS} more: --json has all")
    show_complaints(console, document)
    problems = document.problems()
    console.print()
    for problem in problems:
        console.print(escape(f"not well: {problem}"))
    if document.leadership is not None and document.stands_by:
        console.print(escape(document.leadership.referral("status")))
    elif not problems:
        console.print("all is well")


def leadership(document: Status, now: datetime) -> str:
    """Who leads, for the end of a line."""
    found = document.leadership
    if found is None:
        return f", term {document.generation}" if document.generation else ""
    if not found.leader:
        return ", stands by; nobody leads"
    since = f"since {ago(found.since, now)}, term {found.term}"
    return f", leads {since}" if found.leads else f", stands by; {found.pod} leads {since}"


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


def ago(then: datetime | None, now: datetime) -> str:
    """How long ago, in the largest unit that fits, as kubectl writes ages."""
    if then is None:
        return "-"
    seconds = int(max(now - then, timedelta()).total_seconds())
    for unit, letter in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "m")):
        if seconds >= 2 * unit:
            return f"{seconds // unit}{letter}"
    return f"{seconds}s"
