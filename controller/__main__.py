"""The controller's process: `python -m ovsnet.controller`."""

from __future__ import annotations

import itertools
import os
import resource
import secrets
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

import click

from ovsnet import logs
from ovsnet.api import KINDS, CredentialsError, LeaseStore, Recorder, Watch, connect
from ovsnet.controller import options
from ovsnet.controller.agents import Agents, AgentsServer
from ovsnet.controller.brain import Brain
from ovsnet.controller.candidate import Alone, Candidate, identity_of
from ovsnet.controller.complainer import Complainer
from ovsnet.controller.garbage import FirstLoad
from ovsnet.controller.leadership import Terms
from ovsnet.controller.loop import Loop
from ovsnet.controller.network import Network
from ovsnet.controller.observer import Observer
from ovsnet.controller.openflow.app import OpenFlowServer
from ovsnet.controller.openflow.encode import fingerprint
from ovsnet.controller.states import Timing
from ovsnet.controller.switchboard import Switchboard
from ovsnet.controller.trust.office import Office
from ovsnet.model import IPNetwork, parse_network
from ovsnet.names import NODE_PORTS, PortRange, port_range, port_range_text


class Address(click.ParamType[tuple[str, int]]):
    """ADDRESS:PORT, an IPv6 address in brackets."""

    name = "address:port"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        """The address and the port."""
        host, separator, port = value.rpartition(":")
        if not separator or not port.isdecimal() or not 0 <= int(port) <= 65535:
            self.fail(f"{value!r}: expected ADDRESS:PORT, such as 0.0.0.0:6653", param, ctx)
        return host.strip("[]"), int(port)


class Range(click.ParamType[IPNetwork]):
    """A network in CIDR notation."""

    name = "cidr"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> IPNetwork:
        """The network."""
        try:
            return parse_network(value)
        except ValueError as error:
            self.fail(f"{error}: expected a network, such as 10.96.0.0/12", param, ctx)


class Ports(click.ParamType[PortRange]):
    """FIRST-LAST."""

    name = "first-last"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> PortRange:
        """The first and the last port."""
        try:
            return port_range(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class LeaseName(click.ParamType[tuple[str, str]]):
    """NAMESPACE/NAME."""

    name = "namespace/name"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """The namespace and the name."""
        namespace, _, name = value.partition("/")
        if not namespace or not name or "/" in name:
            expected = "expected NAMESPACE/NAME, such as ovsnet-system/ovsnet-controller"
            self.fail(f"{value!r}: {expected}", param, ctx)
        return namespace, name


class Refresher:
    """Has all kinds of objects listed afresh. Every request has a number, greater than those before
    it, by which the watches tell that they have done it.
    """

    def __init__(self, watches: Sequence[Watch]) -> None:
        self._watches = watches
        self._numbers = itertools.count(1)

    def __call__(self) -> int:
        """Ask for it; returns the number. From any thread."""
        number = next(self._numbers)
        for watch in self._watches:
            watch.refresh(number)
        return number


def take_all_descriptors() -> None:
    """Allow this process as many open files as it may have: a node's switch and agent need three,
    and the usual limit is 1024.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def explain(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    """Print all options, if that is wanted."""
    if wanted:
        click.echo(options.explain(context.command), nl=False)
        context.exit()


@click.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    is_eager=True,
    expose_value=False,
    callback=options.read,
    help="TOML file with options, named as here but with underscores; these go before it.",
)
@click.option(
    "--explain-config",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=explain,
    help="Print all options with their defaults, as such a file.",
)
@click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="How to reach the API server. Without it: the pod's own service account.",
)
@click.option(
    "--apiserver",
    metavar="URL",
    default="",
    help="Where the API server is reached, as in https://192.0.2.1:6443, in place of the address "
    "that the credentials name. Needed where nothing serves that address yet.",
)
@click.option(
    "--listen",
    type=Address(),
    multiple=True,
    default=["0.0.0.0:6653"],
    show_default=True,
    help="Where switches connect. May be given several times.",
)
@click.option(
    "--http",
    type=Address(),
    default="127.0.0.1:9095",
    show_default=True,
    help="Where /status, /why, /plan, /metrics, /owners, /sets and /healthz are served.",
)
@click.option(
    "--agents",
    "agents_at",
    type=Address(),
    default="0.0.0.0:9096",
    show_default=True,
    help="Where nodes' agents report which flows are in effect.",
)
@click.option(
    "--plain",
    is_flag=True,
    help="Speak plain TCP with switches and plain HTTP with agents, and believe whoever connects. "
    "Without it both must show their node's certificate.",
)
@click.option(
    "--namespace",
    default="ovsnet-system",
    show_default=True,
    help="Where the agents' service account is, and the Secret and ConfigMap with the certificate "
    "authorities.",
)
@click.option(
    "--certificate-hours",
    type=click.FloatRange(min=0.01, max=168),
    default=24,
    show_default=True,
    help="How long a node's certificate is valid. Agents get new ones in good time.",
)
@click.option(
    "--lease",
    type=LeaseName(),
    help="The Lease by which one of several controllers is elected to lead. Without it this one "
    "leads.",
)
@click.option(
    "--lease-duration",
    type=click.IntRange(min=1),
    default=Terms().seconds,
    show_default=True,
    help="Seconds after which another takes over from a leader that renews the Lease no more.",
)
@click.option(
    "--lease-renew",
    type=click.FloatRange(min=0.05),
    default=Terms().renew,
    show_default=True,
    help="Seconds between two renewals; less than half of --lease-duration.",
)
@click.option(
    "--pod",
    envvar="POD_NAME",
    default="",
    help="Name of the pod that this runs in, for the Lease. Without it: the host's name.",
)
@click.option(
    "--pod-address",
    envvar="POD_IP",
    default="",
    help="That pod's address, for the Lease.",
)
@click.option(
    "--generation",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="The term of a leadership without --lease: switches refuse a controller with a lower one "
    "than they know.",
)
@click.option(
    "--audit",
    type=click.FloatRange(min=1),
    default=Timing().audit,
    show_default=True,
    help="Seconds between two comparisons of all flows of a switch with what they should be.",
)
@click.option(
    "--counters",
    type=click.FloatRange(min=1),
    default=Timing().counters,
    show_default=True,
    help="Seconds between two questions to a switch how many packets policies have dropped.",
)
@click.option(
    "--services",
    type=Range(),
    multiple=True,
    help="The cluster's range of service addresses (--service-cluster-ip-range of the API server); "
    "once for each family. Services with other addresses are refused; without it none is.",
)
@click.option(
    "--node-ports",
    type=Ports(),
    default=port_range_text(NODE_PORTS),
    show_default=True,
    help="First and last port of node ports: --service-node-port-range of the API server, and the "
    "agents' option of this name. Node ports outside of it are left out.",
)
@click.option(
    "--log-level",
    type=click.Choice(logs.LEVELS),
    default="info",
    show_default=True,
    help="Least level that is logged.",
)
@click.option(
    "--log-format",
    type=click.Choice([str(f) for f in logs.FORMATS]),
    default="logfmt",
    show_default=True,
    help="Form of the log's lines.",
)
def main(
    *,
    kubeconfig: Path | None,
    apiserver: str,
    listen: tuple[tuple[str, int], ...],
    http: tuple[str, int],
    agents_at: tuple[str, int],
    plain: bool,
    namespace: str,
    certificate_hours: float,
    lease: tuple[str, str] | None,
    lease_duration: int,
    lease_renew: float,
    pod: str,
    pod_address: str,
    generation: int,
    audit: float,
    counters: float,
    services: tuple[IPNetwork, ...],
    node_ports: PortRange,
    log_level: str,
    log_format: str,
) -> None:
    """Compute every node's flows from what the API server says, and keep its switch to them."""
    logs.configure(sys.stderr, logs.Format(log_format), logs.Level.named(log_level))
    log = logs.get("controller")
    take_all_descriptors()
    try:
        connection = connect(kubeconfig, apiserver)
    except CredentialsError as error:
        raise click.ClickException(str(error)) from error
    timing = Timing(audit=audit, counters=counters)
    post: Candidate | Alone = Alone(generation)
    if lease is not None:
        if lease_renew * 2 >= lease_duration:
            raise click.BadParameter(
                f"{lease_renew:g} s: expected less than half of --lease-duration",
                param_hint="--lease-renew",
            )
        terms = Terms.of(lease_duration, lease_renew)
        store = LeaseStore(connection, *lease, terms.patience)
        identity = identity_of(pod or os.uname().nodename, pod_address, secrets.token_hex(4))
        post = Candidate(identity, terms, store, time.monotonic, lambda: loop.call(lambda: None))
    network = Network(fingerprint, service_ranges=services, node_ports=node_ports)
    brain = Brain(network, Switchboard(post.term(), timing))
    observer = Observer(brain, post.leadership, time.monotonic, time.time)
    recorder = Recorder(connection, ours=lambda: post.term() is not None)
    complainer = Complainer(brain, recorder.record, time.monotonic)
    first_load = FirstLoad(lambda: loop.depth)
    loop = Loop(brain, time.monotonic, observer, complainer, first_load, post, term=post.term)
    agents = Agents(brain, loop)
    life = timedelta(hours=certificate_hours)
    office = None if plain else Office(connection, namespace, life)
    watches = [Watch(connection, kind, loop.heard, reached=loop.heard) for kind in KINDS]
    refresh = Refresher(watches)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: loop.stop())
    try:
        with (
            observer.serve(http, loop, agents.questions.connections, refresh),
            office or nullcontext(),
            AgentsServer(agents_at, agents, office, observer.refused("agent")) as agents_server,
            OpenFlowServer(
                listen,
                loop.seen,
                office.switches if office else None,
                observer.refused("switch"),
            ) as server,
        ):
            recorder.start()
            for watch in watches:
                watch.start()
            log.info(
                "started",
                listen=server.addresses,
                http=http,
                agents=agents_server.address,
                security="none" if plain else "TLS",
                lease="/".join(lease) if lease else "none",
            )
            loop.run(server)
            # Nothing may be written any more when another is told that it can take over.
            server.close()
            post.stop()
    except OSError as error:
        raise click.ClickException(f"cannot listen: {error}") from error
    finally:
        for watch in watches:
            watch.stop()
        recorder.stop()
        connection.close()
    log.info("stopped")
    sys.exit(0)


if __name__ == "__main__":
    main()
