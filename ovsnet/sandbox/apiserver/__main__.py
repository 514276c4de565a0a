"""`python -m ovsnet.sandbox.apiserver`: the server as a process of its own."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path

import click

from ovsnet.sandbox.apiserver.bootstrap import Advertised
from ovsnet.sandbox.apiserver.kubeconfig import write_kubeconfig
from ovsnet.sandbox.apiserver.server import Application, Options, real_sources, serve
from ovsnet.sandbox.apiserver.services import ServiceRange
from ovsnet.sandbox.apiserver.status import ApiError

log = logging.getLogger("ovsnet.sandbox.apiserver")

_CLONE_NEWNET = 0x40000000


def split_address(text: str) -> tuple[str, int]:
    """Read `ADDRESS:PORT` or `[ADDRESS]:PORT`. Raises click.BadParameter."""
    host, colon, port = text.rpartition(":")
    host = host.strip("[]")
    try:
        ip_address(host)
        number = int(port)
    except ValueError:
        number = -1
    if not colon or not 0 <= number <= 65535:
        raise click.BadParameter(f"{text!r}: expected ADDRESS:PORT, such as 127.0.0.1:6443")
    return host, number


def listen(address: tuple[str, int]) -> socket.socket:
    """A listening socket in this network namespace. Raises OSError."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    return socket.create_server(address, family=family, backlog=1024)


def listen_in_namespace(path: str, address: tuple[str, int]) -> socket.socket:
    """A listening socket in the network namespace at a path. Raises OSError.

    A thread enters the namespace and ends: a socket stays in the namespace it was made in, and
    this process stays where it is.
    """
    results: list[socket.socket | OSError] = []

    def enter() -> None:
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                libc = ctypes.CDLL(None, use_errno=True)
                if libc.setns(handle, _CLONE_NEWNET) != 0:
                    number = ctypes.get_errno()
                    raise OSError(number, os.strerror(number), path)
            finally:
                os.close(handle)
            results.append(listen(address))
        except OSError as error:
            results.append(error)

    thread = threading.Thread(target=enter, name="listen-in-namespace")
    thread.start()
    thread.join()
    (result,) = results
    if isinstance(result, OSError):
        raise result
    return result


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _networks(text: str) -> list[ServiceRange]:
    try:
        networks = [ip_network(part) for part in text.split(",") if part]
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if not networks or len({network.version for network in networks}) != len(networks):
        raise click.BadParameter(f"{text!r}: expected one range, or one of each family")
    return networks


def _sockets(addresses: Sequence[str], in_namespaces: Sequence[str]) -> list[socket.socket]:
    sockets = []
    for text in addresses:
        sockets.append(listen(split_address(text)))
    for text in in_namespaces:
        path, _, address = text.partition("=")
        sockets.append(listen_in_namespace(path, split_address(address)))
    return sockets


async def _run(
    application: Application, sockets: Sequence[socket.socket], kubeconfigs: Sequence[str]
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def ready() -> None:
        urls = [_url(listener) for listener in sockets]
        for text in kubeconfigs:
            path, _, server = text.partition("=")
            write_kubeconfig(Path(path), server or urls[0])
        log.info(
            "serving an in-memory Kubernetes API, for the sandbox and for tests only: "
            "no authentication, nothing is kept listen=%s",
            ",".join(urls),
        )

    await serve(application, sockets, ready, stop)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--listen", "addresses", multiple=True, metavar="ADDRESS:PORT", help="May be given again."
)
@click.option(
    "--listen-in-netns",
    "in_namespaces",
    multiple=True,
    metavar="PATH=ADDRESS:PORT",
    help="Listen inside the network namespace at PATH. May be given again.",
)
@click.option(
    "--kubeconfig-out",
    "kubeconfigs",
    multiple=True,
    metavar="FILE[=URL]",
    help="Write a kubeconfig once the server answers: for URL, or for the first address.",
)
@click.option(
    "--advertise",
    metavar="ADDRESS:PORT",
    help="Where the whole cluster reaches this server: the endpoint of its service, kubernetes.",
)
@click.option("--service-cidr", default="10.96.0.0/16,fd00:10:96::/112", show_default=True)
@click.option("--pod-cidr", default="10.244.0.0/16,fd00:10:244::/56", show_default=True)
@click.option(
    "--controllers",
    "controller_names",
    default="*",
    show_default=True,
    help="Which controllers to run, separated by commas; * for all.",
)
@click.option(
    "--history",
    default=Options.history,
    show_default=True,
    help="Changes kept of each kind; watches from before them get 410 Gone.",
)
@click.option("--bookmark-interval", default=Options.bookmark_interval, show_default=True)
def main(
    *,
    addresses: tuple[str, ...],
    in_namespaces: tuple[str, ...],
    kubeconfigs: tuple[str, ...],
    advertise: str | None,
    service_cidr: str,
    pod_cidr: str,
    controller_names: str,
    history: int,
    bookmark_interval: float,
) -> None:
    """Serve an in-memory Kubernetes API: for the sandbox and for tests only.

    It asks for no credentials, allows everything, and forgets everything when it ends.
    """
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    if not addresses and not in_namespaces:
        raise click.UsageError("expected --listen or --listen-in-netns at least once")
    every = controller_names == "*"
    options = Options(
        _networks(service_cidr),
        history,
        bookmark_interval,
        _networks(pod_cidr),
        None if every else [name for name in controller_names.split(",") if name],
        None if advertise is None else Advertised(*split_address(advertise)),
    )
    try:
        application = Application(options, real_sources())
    except (ValueError, ApiError) as error:
        raise click.BadParameter(str(error)) from None
    try:
        sockets = _sockets(addresses, in_namespaces)
    except OSError as error:
        raise click.ClickException(f"cannot listen: {error}") from None
    asyncio.run(_run(application, sockets, kubeconfigs))


if __name__ == "__main__":
    main()
