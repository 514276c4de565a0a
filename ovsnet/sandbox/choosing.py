"""The command line's choice of an API server."""

from __future__ import annotations

from pathlib import Path

import click

from ovsnet.sandbox.layout import PROGRAMS_VARIABLE

programs_option = click.option(
    "--apiserver",
    "programs",
    metavar="DIRECTORY",
    envvar=PROGRAMS_VARIABLE,
    show_envvar=True,
    type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path),
    help="Run Kubernetes' own control plane, whose programs are in DIRECTORY.",
)
"""`--apiserver DIRECTORY`, which the command gets as `programs`."""
