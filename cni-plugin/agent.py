"""The node agent: `python -m ovsnet.cni.agent --config FILE`. Puts the parts together."""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import msgspec

from ovsnet import api, logs, model, names
from ovsnet.cni import config as options
from ovsnet.cni import revalidation, servedudp, tracked
from ovsnet.cni.check import Checker
from ovsnet.cni.config import Config, ConfigError
from ovsnet.cni.correspondence import Correspondence
from ovsnet.cni.credentials import Files
from ovsnet.cni.discovery import (
    Controllers,
    ControllerSource,
    FixedControllers,
    WatchedControllers,
    controllers_of,
)
from ovsnet.cni.edges import Edges, no_checkpoint
from ovsnet.cni.endpoint import Endpoints
from ovsnet.cni.exchange import Exchange
from ovsnet.cni.housekeeping import Housekeeping
from ovsnet.cni.identity import Identity, installer
from ovsnet.cni.keeper import Keeper
from ovsnet.cni.leads import LeadWatch
from ovsnet.cni.moving import Moving
from ovsnet.cni.node import Node
from ovsnet.cni.ovsdb import Database
from ovsnet.cni.probe import Closer
from ovsnet.cni.ranges import NodeRanges
from ovsnet.cni.reporter import Reporter
from ovsnet.cni.respondent import PATIENCE, Respondent
from ovsnet.cni.server import Server
from ovsnet.cni.settling import Settling
from ovsnet.cni.source import FixedSource, NodeSource, WatchedSource
from ovsnet.cni.stampwatch import Stamp, StampWatch
from ovsnet.cni.store import Store
from ovsnet.cni.teardown import Teardown
from ovsnet.cni.trail import Places, TrailKeeper
from ovsnet.cni.verbs import Plugin

_log = logs.get("agent")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def source_of(config: Config) -> NodeSource:
    """The configured ranges, or those of the Node object.

    Raises:
        CredentialsError: the API server's address or credentials are missing.
    """
    if config.pod_cidrs:
        return FixedSource(NodeRanges.of(config.pod_cidrs))
    kubeconfig = Path(config.kubeconfig) if config.kubeconfig else None
    connection = api.connect(kubeconfig, config.apiserver)

    def watch(heard: Callable[[Sequence[str] | None], None]) -> api.Watch:
        def emit(node: model.Node | None) -> None:
            heard(None if node is None else [str(cidr) for cidr in node.pod_cidrs])

        return api.watch_node(connection, config.node_name, emit)

    return WatchedSource(config.node_name, Path(config.state_dir) / "ranges", watch)


def discovery_of(config: Config) -> ControllerSource:
    """The configured controllers, or those behind the configured service.

    Raises:
        CredentialsError: the API server's address or credentials are missing.
    """
    if not config.controller_service:
        return FixedControllers(Controllers(config.controllers, config.agents_urls))
    kubeconfig = Path(config.kubeconfig) if config.kubeconfig else None
    connection = api.connect(kubeconfig, config.apiserver)
    namespace, _, service = config.controller_service.partition("/")

    def watch(heard: Callable[[Controllers], None]) -> api.Watch:
        def emit(listening: Sequence[api.Listening]) -> None:
            heard(controllers_of(listening, plain=config.plain))

        return api.watch_listening(connection, namespace, service, emit)

    return WatchedControllers(Path(config.state_dir) / "controllers", watch)


def identity_of(
    config: Config, database: Database, controllers: Callable[[], Sequence[str]]
) -> Identity | None:
    """What keeps the node's certificate; None if no controller wants one. `controllers` are the
    URLs of their listeners for agents.

    Raises:
        CredentialsError: the API server's address or credentials are missing.
    """
    if not config.secure:
        return None
    kubeconfig = Path(config.kubeconfig) if config.kubeconfig else None
    connection = api.connect(kubeconfig, config.apiserver)
    namespace, _, name = config.authority.partition("/")
    return Identity(
        config.node_name,
        Files(Path(config.state_dir) / "tls"),
        Path(config.token),
        lambda: [url for url in controllers() if url.startswith("https:")],
        lambda heard: api.watch_config_map(connection, namespace, name, heard),
        installer(database),
    )


class Agent:
    """All parts of the agent, from `start` to `stop`.

    `checkpoint` is called between the steps of setting a pod up or taking it down.
    """

    def __init__(
        self,
        config: Config,
        source: NodeSource,
        checkpoint: Callable[[str], None] = no_checkpoint,
    ) -> None:
        _make_private(Path(config.state_dir))
        self._store = Store(Path(config.state_dir) / "agent.db", config.quarantine)
        self._database = Database(Path(config.ovsdb))
        self._closer = Closer()
        boot = _BOOT_ID.read_text().strip()
        node = Node()
        edges = Edges(
            store=self._store,
            database=self._database,
            node=node,
            closer=self._closer,
            bridge=config.bridge,
            ovs_rundir=Path(config.ovs_rundir),
            boot_id=boot,
            deadline=config.deadline,
            checkpoint=checkpoint,
        )
        self._teardown = Teardown(edges)
        endpoints = Endpoints(edges, self._teardown)
        housekeeping = Housekeeping(edges, endpoints, self._teardown)
        tables = {table.value: table.text for table in names.Table}
        self._discovery = discovery_of(config)
        self._keeper = Keeper(
            config,
            source,
            self._database,
            node,
            housekeeping,
            tables,
            checkpoint,
            lambda: self._discovery.controllers().targets,
            trail=TrailKeeper(Path(config.state_dir), Places.of(config), boot),
        )
        plugin = Plugin(endpoints, self._teardown, Checker(edges))
        self._server = Server(Path(config.socket), plugin.answer)
        self._identity = identity_of(config, self._database, self._urls)
        tls = self._identity.context if self._identity else None
        rundir, name = Path(config.ovs_rundir), config.node_name
        self._correspondence = Correspondence(
            lambda url: Reporter(name, url, Exchange(url, tls=tls)),
            lambda url: Respondent(
                name, url, Exchange(url, PATIENCE, tls), lambda: tracked.connections(rundir)
            ),
        )
        management = rundir / f"{config.bridge}.mgmt"
        self._moving = Moving(lambda: LeadWatch(management), lambda: servedudp.connected(rundir))
        self._settling = Settling(
            lambda: StampWatch(management),
            lambda: revalidation.connected(rundir),
            self._settled,
        )

    def _settled(self, stamp: Stamp | None) -> None:
        self._correspondence.settled(stamp)
        self._moving.settled(stamp)

    def _urls(self) -> Sequence[str]:
        return self._discovery.controllers().urls

    def _controllers_changed(self) -> None:
        self._correspondence.keep(self._urls())
        self._keeper.look()
        if self._identity is not None:
            self._identity.look()

    def start(self) -> None:
        """Answer calls and keep the node in shape, in threads of their own."""
        self._server.start()
        self._keeper.start()
        if self._identity is not None:
            self._identity.start()
        self._correspondence.keep(self._urls())
        self._discovery.start(self._controllers_changed)
        self._moving.start()
        self._settling.start()

    def stop(self) -> None:
        """Finish what is under way. Running pods, the bridge and the configuration stay."""
        self._server.stop()
        self._settling.stop()
        self._moving.stop()
        self._discovery.stop()
        self._correspondence.stop()
        self._keeper.stop()
        if self._identity is not None:
            self._identity.stop()
        self._teardown.stop()
        self._closer.stop()
        self._database.close()
        self._store.close()


def _make_private(directory: Path) -> None:
    """Make a directory into which root alone may look, whoever made it."""
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)


@contextlib.contextmanager
def _signals() -> Iterator[socket.socket]:
    """A socket on which a byte comes with SIGTERM or SIGINT.

    The system may hand a signal to any thread. One that went to another than the main thread does
    not wake that from waiting for a lock; a byte does.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    with reader, writer:
        yield reader


def run(config: Config, checkpoint: Callable[[str], None] = no_checkpoint) -> None:
    """Run the agent until SIGTERM or SIGINT.

    Raises:
        CredentialsError, OSError, sqlite3.Error: it could not start.
    """
    agent = Agent(config, source_of(config), checkpoint)
    with _signals() as ended:
        agent.start()
        _log.info("agent started", node=config.node_name, socket=config.socket)
        ended.recv(1)
        agent.stop()
    _log.info("agent stopped", node=config.node_name)


@click.command()
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    help="TOML file with the agent's options; without it every option has its default.",
)
@click.option("--node", default="", help="The node's name, where the file does not have it.")
@click.option("--explain-config", is_flag=True, help="Print all options with their defaults.")
def main(path: Path | None, *, node: str, explain_config: bool) -> None:
    """Set up this node's switch and its pods' interfaces.

    Runs in the node's network namespace as root, beside Open vSwitch, and answers the CNI plugin
    that it installs.
    """
    if explain_config:
        click.echo(options.explain(), nl=False)
        return
    try:
        config = options.load(path) if path else Config()
    except ConfigError as error:
        raise click.ClickException(str(error)) from None
    if not config.node:
        config = msgspec.structs.replace(config, node=node)
    logs.configure(sys.stderr, logs.Format(config.log_format), logs.Level.named(config.log_level))
    try:
        run(config)
    except (api.CredentialsError, OSError) as error:
        _log.error("agent cannot start", node=config.node_name, reason=error)
        sys.exit(1)


if __name__ == "__main__":
    main()
