"""A host outside the cluster, that says who it was asked by: `python -m ovsnet.sandbox.outside`.

It answers as a pod's responders do (see `kubelet.responders`), on TCP and on UDP. `GET /clientip`
tells the source address that it saw, which is how a masquerade is proven.
"""

from __future__ import annotations

import asyncio
import signal
import sys

import click

from ovsnet import logs
from ovsnet.sandbox.kubelet.responders import TCP, UDP, Identity, Port, Responders
from ovsnet.sandbox.layout import OUTSIDE


async def serve(port: int) -> None:
    """Answer in this process's network namespace until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    responders = Responders(Identity("", OUTSIDE, ""))
    await responders.open((Port(TCP, port), Port(UDP, port)), None)
    for problem in responders.problems:
        raise click.ClickException(problem)
    await stop.wait()
    await responders.close()


@click.command()
@click.option("--port", required=True, type=int, help="TCP and UDP port to answer on.")
def main(port: int) -> None:
    """Be the host outside of a sandbox's cluster."""
    logs.configure(sys.stderr)
    asyncio.run(serve(port))


if __name__ == "__main__":
    main()
