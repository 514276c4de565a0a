"""`ovsnet sandbox`: a cluster on this machine, for trying out and for tests."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import click
import msgspec

from ovsnet.names import TUNNEL_UDP_PORTS
from ovsnet.sandbox import entering, process, state, teardown
from ovsnet.sandbox.choosing import programs_option
from ovsnet.sandbox.layout import Layout, LayoutError, from_environment

if TYPE_CHECKING:
    from ovsnet.sandbox.health import Health

UNHEALTHY = 1
NOT_RUNNING = 3
INTERRUPTED = 130

_WIDTH_IN_A_FILE = 160

_COMMAND_SETTINGS = {"ignore_unknown_options": True, "allow_interspersed_args": False}
_KUBECTL_SETTINGS = {**_COMMAND_SETTINGS, "help_option_names": []}

_EXPECTED = (
    state.ClusterError,
    entering.NoSuchPodError,
    process.ProcessError,
    state.BusyError,
    state.NotRunningError,
    TimeoutError,
    LayoutError,
)


class SandboxGroup(click.Group):
    """A group whose commands' expected failures are messages, not traces."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; an interrupt gets the exit status that shells give it."""
        try:
            return super().invoke(ctx)
        except _EXPECTED as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(INTERRUPTED)


def _need_root() -> None:
    if os.geteuid() != 0:
        raise click.ClickException(
            "the sandbox belongs to root: run this as root (there is no way without, "
            "because it enters and makes network namespaces)"
        )


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Show steps as they begin: one changing line on a terminal, else a line each."""
    began = time.monotonic()
    if sys.stderr.isatty():
        from rich.console import Console  # noqa: PLC0415  only where it is shown

        console = Console(stderr=True)
        with console.status("starting") as line:
            yield line.update
    else:
        yield lambda text: click.echo(f"{time.monotonic() - began:5.1f} s  {text}", err=True)


@click.group(cls=SandboxGroup)
@click.pass_context
def sandbox(ctx: click.Context) -> None:
    """Run a whole cluster on this machine, to try ovsnet out.

    Every node is a network namespace with a switch, an agent and a kubelet of its own. Nothing of
    the machine's own network is touched, and `down` leaves nothing behind. Needs root.
    """
    ctx.obj = from_environment()


@sandbox.command()
@click.option("--nodes", default=3, show_default=True, help="How many nodes there are.")
@programs_option
@click.option(
    "--tunnel",
    type=click.Choice(sorted(TUNNEL_UDP_PORTS)),
    default="vxlan",
    show_default=True,
    help="What nodes wrap packets to each other in.",
)
@click.pass_obj
def up(layout: Layout, nodes: int, programs: str, tunnel: str) -> None:
    """Start the sandbox; returns when all its nodes are ready."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    # These import much that `exec` does without.
    from ovsnet.sandbox import cluster  # noqa: PLC0415
    from ovsnet.sandbox.wishes import Wishes  # noqa: PLC0415

    began = time.monotonic()
    try:
        with _progress() as report:
            reached = cluster.up(layout, nodes, report, Wishes(programs, tunnel))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--nodes") from error
    seconds = time.monotonic() - began
    click.echo(f"The sandbox is up: {len(reached.nodes)} nodes ready after {seconds:.1f} s.")
    click.echo("  ovsnet sandbox kubectl get nodes -o wide   any kubectl command")
    click.echo("  ovsnet sandbox status                      processes, nodes and pods")
    click.echo("  ovsnet sandbox down                        take it all away")


@sandbox.command()
@click.pass_obj
def down(layout: Layout) -> None:
    """Take the sandbox away: processes, namespaces, links, files. Harmless where there is none."""
    _need_root()
    removed = teardown.down(layout)
    if removed.anything:
        click.echo(
            f"The sandbox is gone: {removed.processes} processes, "
            f"{removed.namespaces} network namespaces and its files."
        )
    else:
        click.echo("There was no sandbox.")


@sandbox.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.pass_obj
def status(layout: Layout, as_json: bool) -> None:
    """Show processes, nodes and pods.

    Exit status 0: all is well; 1: something is not; 3: no sandbox is running.
    """
    _need_root()
    try:
        current = state.running(layout)
    except state.NotRunningError as error:
        if as_json:
            click.echo('{"phase": "down", "healthy": false}')
        else:
            click.echo(f"Error: {error}", err=True)
        sys.exit(NOT_RUNNING)
    import asyncio  # noqa: PLC0415

    from ovsnet.sandbox import health  # noqa: PLC0415

    found = asyncio.run(health.examine(layout, current))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    else:
        _print_health(found)
    if not found.healthy:
        sys.exit(UNHEALTHY)


def _print_health(found: Health) -> None:
    from rich.console import Console  # noqa: PLC0415  only where it is shown
    from rich.table import Table  # noqa: PLC0415

    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH_IN_A_FILE)
    nodes = Table("Node", "Ready", "Addresses", "Pod ranges", "Pods", box=None)
    for each in found.nodes:
        ready = "yes" if each.ready else f"no: {each.fault}"
        pods = f"{each.running}/{each.pods} running"
        nodes.add_row(each.name, ready, "\n".join(each.addresses), "\n".join(each.pod_cidrs), pods)
    console.print(nodes)
    ended = [each.name for each in found.processes if not each.alive]
    alive = len(found.processes) - len(ended)
    click.echo(f"\n{alive} of {len(found.processes)} processes run; datapath {found.datapath}")
    for name in ended:
        click.echo(f"  {name} has ended; `ovsnet sandbox process start {name}` starts it again")
    if found.api_fault:
        click.echo(found.api_fault)
    if found.pods:
        pods_table = Table("Namespace", "Pod", "Node", "Phase", "Ready", "Addresses", box=None)
        for pod in found.pods:
            pods_table.add_row(
                pod.namespace,
                pod.name,
                pod.node,
                pod.phase,
                "yes" if pod.ready else "no",
                " ".join(pod.addresses),
            )
        console.print()
        console.print(pods_table)


@sandbox.command()
@click.pass_obj
def kubeconfig(layout: Layout) -> None:
    """Print the path of a kubeconfig for any client on this machine."""
    _need_root()
    click.echo(state.running(layout).kubeconfig)


@sandbox.command(context_settings=_KUBECTL_SETTINGS)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def kubectl(layout: Layout, arguments: tuple[str, ...]) -> None:
    """Run kubectl on the sandbox; all arguments and the exit status are kubectl's own."""
    _need_root()
    current = state.running(layout)
    program = shutil.which("kubectl")
    if program is None:
        raise click.ClickException(
            "kubectl is not installed (on Debian: apt-get install kubernetes-client); any other "
            f"client works too with the kubeconfig {current.kubeconfig}"
        )
    environment = {
        **os.environ,
        "KUBECONFIG": current.kubeconfig,
        "KUBECACHEDIR": str(layout.kubectl_cache),
    }
    os.execve(program, ["kubectl", *arguments], environment)


def _become(place: entering.Place, command: tuple[str, ...]) -> NoReturn:
    if command[0] == "--":
        command = command[1:]
    if not command:
        raise click.UsageError("a command was expected behind --")
    try:
        entering.run(place, command)
    except FileNotFoundError:
        click.echo(f"{command[0]}: command not found", err=True)
        sys.exit(entering.NOT_FOUND)
    except PermissionError as error:
        click.echo(f"{command[0]}: {error.strerror}", err=True)
        sys.exit(entering.NOT_EXECUTABLE)


@sandbox.command("exec", context_settings=_COMMAND_SETTINGS)
@click.argument("pod", metavar="NAMESPACE/POD")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def exec_(layout: Layout, pod: str, command: tuple[str, ...]) -> None:
    """Run one of this machine's commands in a pod's network; its exit status is the command's.

    \b
    Example: ovsnet sandbox exec shop/web-0 -- ping -c 3 10.244.1.2
    """
    _need_root()
    namespace, slash, name = pod.partition("/")
    if not (namespace and slash and name):
        raise click.BadParameter(f"{pod!r}: NAMESPACE/POD was expected, as in shop/web-0")
    _become(entering.of_pod(layout, state.running(layout), namespace, name), command)


@sandbox.command("node-exec", context_settings=_COMMAND_SETTINGS)
@click.argument("node")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def node_exec(layout: Layout, node: str, command: tuple[str, ...]) -> None:
    """Run one of this machine's commands on a node; its exit status is the command's.

    Open vSwitch's own commands reach that node's switch.

    \b
    Example: ovsnet sandbox node-exec node1 -- ovs-ofctl -O OpenFlow15 dump-flows br-int
    """
    _need_root()
    _become(entering.of_node(layout, state.running(layout), node), command)


@sandbox.group("process")
def process_group() -> None:
    """End and start single processes, to see what the others do about it."""


@process_group.command("kill")
@click.argument("name")
@click.option(
    "--signal",
    "how",
    default="KILL",
    show_default=True,
    type=click.Choice([s.name.removeprefix("SIG") for s in signal.Signals]),
    help="The signal; with KILL or TERM the command returns when the process has ended.",
)
@click.pass_obj
def kill(layout: Layout, name: str, how: str) -> None:
    """Send a signal to a process, as `agent-node1` or `controller`."""
    _need_root()
    state.running(layout)
    number = signal.Signals[f"SIG{how}"]
    ends = number in (signal.SIGKILL, signal.SIGTERM)
    if not process.end(process.known(layout, name), number, wait=ends):
        raise click.ClickException(f"{name} had ended before")
    click.echo(f"{name} got SIG{how}" + (" and has ended" if ends else ""))


@process_group.command("start")
@click.argument("name")
@click.pass_obj
def start(layout: Layout, name: str) -> None:
    """Start a process again, just as it was started before."""
    _need_root()
    from ovsnet.sandbox import cluster  # noqa: PLC0415

    cluster.start_process(layout, name)
    click.echo(f"{name} is running")
