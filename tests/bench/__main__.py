"""Runs every measurement, one after another; the machine should have nothing else to do."""

from __future__ import annotations

import importlib
from pathlib import Path

import click
from rich.console import Console

from tests.bench.figures import Figure, markdown, show, write

MODULES = (
    "cni",
    "flows",
    "traffic",
    "scale",
    "cluster",
    "policies_scale",
    "policies_traffic",
    "policies_latency",
    "services_scale",
    "services_traffic",
)


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(MODULES))
@click.option("--rounds", default=5, show_default=True, help="How often each figure is measured.")
@click.option(
    "--out", default="build/bench.json", show_default=True, type=click.Path(path_type=Path)
)
def main(names: tuple[str, ...], rounds: int, out: Path) -> None:
    """Measure the hot paths against their baselines; NAMES are some of them, all if none."""
    console = Console()
    found: list[Figure] = []
    for name in names or MODULES:
        with console.status(f"measuring {name}"):
            found += importlib.import_module(f"tests.bench.{name}").figures(rounds)
    show(found, console)
    write(found, out)
    page = out.with_suffix(".md")
    page.write_text(markdown(found))
    console.print(f"written to {out} and, as a table for docs/performance.md, to {page}")


if __name__ == "__main__":
    main()
