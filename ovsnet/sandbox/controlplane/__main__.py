"""`python -m ovsnet.sandbox.controlplane OPTIONS.json`: a control plane as a process of its own."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import click
import msgspec

from ovsnet import logs
from ovsnet.sandbox.controlplane.options import Options
from ovsnet.sandbox.controlplane.programs import MissingProgramError
from ovsnet.sandbox.controlplane.supervisor import ControlPlaneError, supervise


async def _run(options: Options) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await supervise(options, stop)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(file: Path) -> None:
    """Run etcd and Kubernetes' control plane as FILE says: `ovsnet.sandbox.controlplane.options`.

    Once everything answers, the kubeconfigs are there. Ends when any of the programs ends.
    """
    logs.configure(sys.stderr)
    try:
        options = msgspec.json.decode(file.read_bytes(), type=Options)
        asyncio.run(_run(options))
    except msgspec.MsgspecError as error:
        raise click.ClickException(f"{file}: {error}") from None
    except (ControlPlaneError, MissingProgramError, OSError) as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
