"""What cannot be done as the API's objects say, as `ovsnet status` shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ovsnet.cli.tables import columns
from ovsnet.controller.status import PolicyComplaint, ServiceComplaint, Status

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_MOST = 50


def show_complaints(console: Console, document: Status) -> None:
    """Print a table for each sort of complaints that there are."""
    if document.policies:
        title = "Policies that are not enforced as they stand"
        _show(console, title, _policies(document.policies), len(document.policies))
    if document.services:
        title = "Services that are not served as they stand"
        _show(console, title, _services(document.services), len(document.services))


def _show(console: Console, title: str, table: Table, count: int) -> None:
    console.print(f"\n[bold]{title}[/bold]")
    console.print(table)
    if count > _MOST:
        console.print(f"and {count - _MOST} more: --json has all")


def _policies(complaints: Sequence[PolicyComplaint]) -> Table:
    from rich.text import Text  # noqa: PLC0415

    table = columns("Policy", "Field", "Reason")
    for each in complaints[:_MOST]:
        table.add_row(Text(each.policy), Text(each.field), Text(each.reason))
    return table


def _services(complaints: Sequence[ServiceComplaint]) -> Table:
    from rich.text import Text  # noqa: PLC0415

    table = columns("Kind", "Name", "Field", "Reason")
    for each in complaints[:_MOST]:
        table.add_row(Text(each.kind), Text(each.name), Text(each.field or "-"), Text(each.reason))
    return table
