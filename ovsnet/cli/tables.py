"""Tables as the commands print them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

_NUMBERS = frozenset(
    {
        *("Flows", "Desired", "Acknowledged", "Settled", "Pods", "Refused", "Packets"),
        *("Pairs", "Port", "Added", "Changed", "Deleted"),
    }
)


def columns(*names: str) -> Table:
    """An empty table of these columns, without lines; numbers stand to the right."""
    from rich.table import Table  # noqa: PLC0415  not for --json

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in names:
        made.add_column(name, justify="right" if name in _NUMBERS else "left")
    return made
