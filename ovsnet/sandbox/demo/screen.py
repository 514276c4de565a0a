"""How the demonstration looks, on a terminal and in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

from ovsnet.sandbox.demo.application import Pod
from ovsnet.sandbox.demo.calls import Answered
from ovsnet.sandbox.demo.checks import Check
from ovsnet.sandbox.demo.pairs import Cell, Survey
from ovsnet.sandbox.demo.reachability import TRANSFER_BYTES, Result

_WIDTH_IN_A_FILE = 150


class Screen:
    """Writes sections, tables and progress. In a file there are no bars, only their results."""

    def __init__(self) -> None:
        console = Console(highlight=False)
        if not console.is_terminal:
            console = Console(highlight=False, width=_WIDTH_IN_A_FILE)
        self._console = console

    def section(self, title: str) -> None:
        """Begin a part of the story."""
        self._console.print(f"\n[bold]{escape(title)}[/bold]")

    def say(self, text: str) -> None:
        """One line."""
        self._console.print(Text(f"  {text}"))

    def quote(self, text: str) -> None:
        """The output of a command."""
        for line in text.rstrip().splitlines():
            self._console.print(Text(f"    {line}"), soft_wrap=True)

    def checks(self, checks: Sequence[Check]) -> None:
        """Checks, one a line."""
        for check in checks:
            mark = "[green]✓[/green]" if check.passed else "[red]✗[/red]"
            self._console.print(f"  {mark} {escape(check.claim)} [dim]({escape(check.seen)})[/dim]")

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar while something is under way; what it yields takes how much of it is done."""
        if not self._console.is_terminal:
            self.say(f"{what} …")
            yield lambda _: None
            return
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
        )
        with Progress(*columns, console=self._console, transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda done: bar.update(task, completed=done)

    def pods(self, pods: Sequence[Pod]) -> None:
        """Where the application's pods are."""
        table = Table("Namespace", "Pod", "Node", "Addresses", box=None, padding=(0, 2))
        for pod in pods:
            table.add_row(pod.namespace, pod.name, pod.node, " ".join(pod.addresses))
        self._console.print(table)

    def reachability(self, results: Sequence[Result]) -> None:
        """The ways through the network and what was seen on each."""
        table = Table(box=None, padding=(0, 1))
        transfer = f"{TRANSFER_BYTES >> 20} MiB by TCP"
        for heading in ("Way", "IP", "To", "Ping", "Full size", "+1 byte", transfer, "Seen as", ""):
            table.add_column(heading, no_wrap=True)
        previous = ""
        for result in sorted(results, key=lambda r: (_order(r, results), r.way.family)):
            way = result.way
            good = all(check.passed for check in result.checks)
            table.add_row(
                "" if way.kind == previous else way.kind,
                f"v{way.family}",
                way.target,
                _time(result),
                f"{way.mtu} B " + ("passed" if result.full.complete else "LOST"),
                "refused" if result.larger.received == 0 else "PASSED",
                _speed(result),
                result.answer.client if result.answer else "nobody",
                "[green]✓[/green]" if good else "[red]✗[/red]",
            )
            previous = way.kind
        self._console.print(table)

    def services(self, answered: Sequence[Answered]) -> None:
        """The ways of calling a service, and who answered."""
        table = Table(box=None, padding=(0, 1))
        for heading in ("Who calls", "By", "IP", "Where", "Calls", "Pods", "Seen as", ""):
            table.add_column(heading, no_wrap=True)
        for each in answered:
            call = each.call
            host = f"[{call.target}]" if call.family == 6 else call.target
            table.add_row(
                call.caller,
                call.by,
                f"v{call.family}",
                Text(f"{host}:{call.port}"),
                str(each.calls),
                f"{len(each.pods)} of {len(each.expected)}",
                Text(" ".join(sorted(each.seen))),
                "[green]✓[/green]" if each.check.passed else "[red]✗[/red]",
            )
        self._console.print(table)

    def pairs(self, survey: Survey, before: Survey | None) -> None:
        """Who reaches whom, by application: those who call in rows, whom they call in columns."""
        table = Table("", box=None, padding=(0, 1))
        for title, port in survey.doors:
            table.add_column(f"{title}\n{port}", no_wrap=True, justify="center")
        cells = survey.cells
        earlier = before.cells if before is not None else cells
        for source in survey.sources:
            keys = [(source, door) for door in survey.doors]
            row = (_cell(cells.get(key), earlier.get(key)) for key in keys)
            table.add_row(Text(source), *row)
        self._console.print(table)

    def verdict(self, text: str, passed: bool) -> None:
        """The last line."""
        self._console.print(f"\n[bold {'green' if passed else 'red'}]{escape(text)}[/]")


def _order(result: Result, results: Sequence[Result]) -> int:
    """The position of the way's kind, so that its two families stand together."""
    return next(i for i, each in enumerate(results) if each.way.kind == result.way.kind)


def _cell(cell: Cell | None, before: Cell | None) -> Text:
    if cell is None:
        return Text("")
    changed = before is not None and before.reached != cell.reached
    style = "green" if cell.reached else "yellow"
    mark = "*" if changed else " "
    if not cell.right:
        return Text(f"!{cell.text}{mark}", style="bold red")
    return Text(f" {cell.text}{mark}", style=style if changed else "")


def _time(result: Result) -> str:
    if not result.ping.complete or result.ping.milliseconds is None:
        return f"{result.ping.received}/{result.ping.sent}"
    return f"{result.ping.milliseconds:.2f} ms"


def _speed(result: Result) -> str:
    if not result.transfer.intact:
        return "FAILED"
    megabits = result.transfer.size * 8 / result.transfer.seconds / 1e6
    return f"{megabits:.0f} Mbit/s"
