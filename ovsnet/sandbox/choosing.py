"""The command line's choice of an API server."""

from __future__ import annotations

import click

from ovsnet.sandbox.layout import PROGRAMS_VARIABLE

programs_option = click.option(
    "--apiserver",
    "programs",
    metavar="DIRECTORY",
    callback=lambda _context, _option, value: value or "",
    envvar=PROGRAMS_VARIABLE,
    show_envvar=True,
    type=click.Path(exists=True, file_okay=False, resolve_path=True),
    help="Run Kubernetes' own control plane, whose programs are in DIRECTORY.",
)
"""`--apiserver DIRECTORY`, which the command gets as `programs`."""
