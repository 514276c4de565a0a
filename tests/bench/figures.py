"""What a measurement yields: a figure with its baseline, medians and p99, and a target or none."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table


class Series(msgspec.Struct, frozen=True):
    """What was measured of one contender: all rounds together."""

    name: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle value."""
        return statistics.median(self.values)

    @property
    def p99(self) -> float:
        """The value that 99 of 100 do not exceed (nearest rank)."""
        ordered = sorted(self.values)
        return ordered[min(len(ordered) - 1, math.ceil(len(ordered) * 0.99) - 1)]


class Figure(msgspec.Struct, frozen=True):
    """One row: `ours` against `baseline`, which was measured in turn in the same run.

    `target` is the ratio of the medians that is aimed at: at most that where `less_is_better`,
    otherwise at least that.
    """

    what: str
    unit: str
    ours: Series
    baseline: Series | None = None
    target: float | None = None
    less_is_better: bool = True

    @property
    def ratio(self) -> float | None:
        """Median of ours by median of the baseline's."""
        return None if self.baseline is None else self.ours.median / self.baseline.median

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        if self.ratio is None or self.target is None:
            return None
        return self.ratio <= self.target if self.less_is_better else self.ratio >= self.target


def figure(
    what: str,
    unit: str,
    ours: Sequence[float],
    baseline: tuple[str, Sequence[float]] | None = None,
    target: float | None = None,
    less_is_better: bool = True,
) -> Figure:
    """A row from plain lists of values."""
    against = None if baseline is None else Series(baseline[0], tuple(baseline[1]))
    return Figure(what, unit, Series("ovsnet", tuple(ours)), against, target, less_is_better)


def show(figures: Iterable[Figure], console: Console) -> None:
    """Print the rows as a table."""
    table = Table(title="median / p99", title_justify="left")
    for heading in ("what", "unit", "ovsnet", "baseline", "", "ratio", "target", "met"):
        table.add_column(heading, justify="left" if heading in ("what", "unit", "") else "right")
    for row in figures:
        bound = "≤" if row.less_is_better else "≥"
        table.add_row(
            row.what,
            row.unit,
            _numbers(row.ours),
            "" if row.baseline is None else _numbers(row.baseline),
            "" if row.baseline is None else row.baseline.name,
            _ratio(row),
            "" if row.target is None else f"{bound} {row.target:g}",
            {None: "", True: "yes", False: "NO"}[row.met],
        )
    console.print(table)


def markdown(figures: Iterable[Figure]) -> str:
    """The rows as the table that stands in docs/performance.md."""
    lines = [
        "| what | unit | ovsnet | baseline | ratio | target | met |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in figures:
        against = ""
        if row.baseline is not None:
            against = f"{_numbers(row.baseline)} ({row.baseline.name})"
        bound = "≤" if row.less_is_better else "≥"
        cells = (
            row.what,
            row.unit,
            _numbers(row.ours),
            against,
            _ratio(row),
            "" if row.target is None else f"{bound} {row.target:.3g}",
            {None: "", True: "yes", False: "**no**"}[row.met],
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write(figures: Iterable[Figure], path: Path) -> None:
    """Write the rows as JSON, with what they were measured on."""
    rows: list[dict[str, Any]] = []
    for row in figures:
        plain = msgspec.to_builtins(row) | {"ratio": row.ratio, "met": row.met}
        for side in (plain["ours"], plain["baseline"]):
            if side is not None:
                series = Series(side["name"], tuple(side["values"]))
                side |= {"median": series.median, "p99": series.p99, "n": len(series.values)}
                del side["values"]
        rows.append(plain)
    machine = {
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine, "figures": rows}, indent=2) + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    """The rows that `write` wrote."""
    rows: list[dict[str, Any]] = json.loads(path.read_text())["figures"]
    return rows


def _ratio(row: Figure) -> str:
    if row.ratio is None:
        return ""
    return f"{row.ratio:.2f}" if row.ratio >= 0.1 else f"{row.ratio:.2g}"


def _numbers(series: Series) -> str:
    return f"{series.median:,.4g} / {series.p99:,.4g}"
