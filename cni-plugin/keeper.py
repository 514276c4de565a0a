"""Keeps the node in shape: bridge, gateway, packet filter, health checks, endpoints, plugin and
configuration.

One thread goes through all of it at the start, when something is known to have changed, and from
time to time; each part compares and repairs. The network configuration is written last, when
pods can be set up, which is what makes kubelet report the node as ready. Once written it stays:
neither a lost controller nor a restart of the agent makes a running node unready.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ovsnet import logs, names
from ovsnet.cni import bridge, datapath, gateway, underlay
from ovsnet.cni.bridge import Bridge, Tunnel
from ovsnet.cni.bridging import Bridging
from ovsnet.cni.config import Config
from ovsnet.cni.gateway import Gateway, RouteTaken
from ovsnet.cni.health import Health
from ovsnet.cni.housekeeping import Housekeeping
from ovsnet.cni.linkwatch import LinkWatch
from ovsnet.cni.netlink import Netlink, NetlinkError
from ovsnet.cni.nft import Installer, PacketFilterError
from ovsnet.cni.node import Network, Node, Waiting
from ovsnet.cni.ovsdb import Database, DatabaseUnreachable, TransactionError
from ovsnet.cni.packetfilter import PacketFilter
from ovsnet.cni.provision import Provision
from ovsnet.cni.ranges import NodeRanges
from ovsnet.cni.source import NodeSource
from ovsnet.cni.trail import TrailKeeper

_log = logs.get("keeper")
_SOON = 0.25
_SWITCH_SECONDS = 5.0
_POLL_SECONDS = 0.01


class Keeper:
    """The thread that keeps the node in shape."""

    def __init__(
        self,
        config: Config,
        source: NodeSource,
        database: Database,
        node: Node,
        housekeeping: Housekeeping,
        tables: Mapping[int, str],
        checkpoint: Callable[[str], None],
        controllers: Callable[[], Sequence[str]],
        *,
        trail: TrailKeeper,
    ) -> None:
        """`controllers` are their targets, as of now; `look` is to be called when they change."""
        self._config = config
        self._source = source
        self._controllers = controllers
        self._database = database
        self._node = node
        self._housekeeping = housekeeping
        self._tables = tables
        self._trail = trail
        self._provision = Provision(config, trail)
        self._filter = Installer()
        self._health = Health()
        self._bridging = Bridging(
            config.underlay_bridge,
            config.underlay,
            database,
            checkpoint,
            config.housekeeping,
            overlay=config.tunnel,
        )
        self._choice: datapath.Choice | None = None
        self._warned: set[str] = set()
        self._reason: str | None = ""
        self._unsettled = False
        self._wake = threading.Event()
        self._stopped = False
        devices = {names.GATEWAY_PORT, config.underlay_bridge}
        self._links = LinkWatch(devices, self._wake.set)
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._source.start(self._wake.set)
        self._links.start()
        self._thread.start()

    def look(self) -> None:
        """Go through everything soon, for something has changed; from any thread."""
        self._wake.set()

    def stop(self) -> None:
        """End after the present round."""
        self._stopped = True
        self._wake.set()
        self._thread.join()
        self._links.stop()
        self._source.stop()
        self._health.stop()

    def _run(self) -> None:
        while not self._stopped:
            pause = _SOON
            try:
                if self.round():
                    pause = self._config.housekeeping
            except Waiting as reason:
                self._waits(str(reason))
            except Exception as error:
                # Whatever it is, the next round may find it mended; a dead keeper mends nothing.
                _log.exception("round failed")
                self._waits(f"setting up the node failed: {type(error).__name__}: {error}")
            self._wake.wait(pause)
            self._wake.clear()

    def _waits(self, reason: str) -> None:
        if reason != self._reason:
            _log.warning("node is not ready", node=self._config.node_name, reason=reason)
        self._reason = reason
        self._node.waits(reason)

    def round(self) -> bool:
        """Go through everything once; True if there is nothing to wait for.

        Raises:
            Waiting: something outside must come first.
        """
        self._provision.install_plugin()
        with Netlink() as netlink:
            self._bridging.guard(netlink)
        ranges = self._source.ranges()
        if ranges is None:
            raise Waiting(
                f"the podCIDR of Node {self._config.node_name} is not known: it has none yet (is"
                " kube-controller-manager run with --allocate-node-cidrs?), or the API server does"
                " not answer"
            )
        try:
            network = self._set_up(ranges)
            self._housekeeping.run(network)
        except DatabaseUnreachable as error:
            raise Waiting(f"Open vSwitch's database does not answer: {error}") from None
        except TransactionError as error:
            raise Waiting(f"Open vSwitch's database refused the bridge: {error}") from None
        except (NetlinkError, PacketFilterError, RouteTaken, underlay.UnderlayError) as error:
            raise Waiting(str(error)) from None
        self._node.ready(network)
        if self._reason is not None:
            _log.info("node is set up", node=self._config.node_name, ranges=ranges.text)
            self._reason = None
        # Open vSwitch may set the port's MAC after us, which flushes its neighbours: look again.
        return self._provision.write_configuration() and not self._unsettled

    def _set_up(self, ranges: NodeRanges) -> Network:
        config = self._config
        userspace = self._userspace()
        with Netlink() as netlink:
            network = Network(ranges, self._mtu(netlink, ranges), userspace)
            self._bridge(network)
            self._bridging.ensure(netlink, userspace=userspace)
            services = config.service_ranges
            wanted = Gateway(ranges.gateway, config.cluster, services, network.mtu)
            self._unsettled = self._gateway(netlink, wanted)
        self._packet_filter(ranges)
        self._health.ensure(ranges.gateway)
        self._heal_handlers()
        return network

    def _userspace(self) -> bool:
        if self._choice is None:
            kernel = self._config.datapath != "netdev" and datapath.kernel_has_openvswitch()
            self._choice = datapath.choose(self._config.datapath, kernel=kernel)
            kind = "userspace (netdev)" if self._choice.userspace else "kernel (system)"
            _log.info("datapath chosen", datapath=kind, reason=self._choice.reason)
        return self._choice.userspace

    def _mtu(self, netlink: Netlink, ranges: NodeRanges) -> int:
        config = self._config
        if config.mtu:
            return config.mtu
        link, has_ipv4 = underlay.find(netlink, self._bridging.device(netlink))
        return underlay.pod_mtu(
            link.mtu,
            over_ipv4=has_ipv4,
            tunnel=config.tunnel,
            with_ipv6=ranges.ipv6 is not None,
        )

    def _bridge(self, network: Network) -> None:
        config = self._config
        if not datapath.switch_answers(Path(config.ovs_rundir)):
            raise Waiting(f"ovs-vswitchd does not run (no control socket in {config.ovs_rundir})")
        desired = Bridge(
            config.bridge,
            config.node_name,
            network.userspace,
            tuple(self._controllers()),
            network.ranges.gateway.pod_mac,
            network.mtu,
            Tunnel(config.tunnel_type, config.overlay_port) if config.tunnel else None,
            self._tables,
        )
        present = bridge.read(self._database, config.bridge)
        operations = bridge.reconcile(desired, present)
        if not operations:
            return
        self._database.transact(operations)
        _log.info(
            "bridge configured" if present else "bridge created",
            bridge=config.bridge,
            mtu=network.mtu,
            controllers=list(desired.controllers),
        )
        self._warn_of_version()

    def _warn_of_version(self) -> None:
        rows = self._database.select("Open_vSwitch", ["ovs_version"])
        version = rows[0]["ovs_version"] if rows else ""
        warning = datapath.version_warning(version if isinstance(version, str) else "")
        if warning and warning not in self._warned:
            self._warned.add(warning)
            _log.warning("old Open vSwitch", warning=warning)

    def _gateway(self, netlink: Netlink, wanted: Gateway) -> bool:
        """Configure the gateway's port; True if something of it had to be changed."""
        present = gateway.read(netlink)
        waited = 0.0
        while present is None:
            if waited > _SWITCH_SECONDS or self._stopped:
                raise Waiting(f"Open vSwitch did not make the port {names.GATEWAY_PORT}")
            self._wake.wait(_POLL_SECONDS)
            waited += _POLL_SECONDS
            present = gateway.read(netlink)
        for name in gateway.apply_settings(gateway.settings(wanted), self._trail.changes):
            _log.info("kernel setting changed", setting=name)
        messages = gateway.reconcile(wanted, present)
        if messages:
            netlink.run(messages)
            _log.info("gateway configured", changes=[message.purpose for message in messages])
        return bool(messages)

    def _packet_filter(self, ranges: NodeRanges) -> None:
        config = self._config
        wanted = PacketFilter(
            ranges,
            config.cluster,
            config.service_ranges,
            config.masquerade,
            config.overlay_port if config.tunnel else None,
            config.redirected_ports,
        )
        if self._filter.ensure(wanted):
            _log.info(
                "packet filter installed",
                ranges=ranges.text,
                masquerade=config.masquerade,
                node_ports=config.node_ports,
            )

    def _heal_handlers(self) -> None:
        """Make ovs-vswitchd count its processors again if it has no upcall handlers.

        Setting the number of its revalidator threads restarts all of these threads.
        """
        if not datapath.lacks_handlers(Path(self._config.ovs_rundir)):
            return
        _log.warning("ovs-vswitchd has no upcall handlers; its threads are started anew")
        key = "n-revalidator-threads"
        column = "other_config"
        for mutation in (["insert", ["map", [[key, "1"]]]], ["delete", ["set", [key]]]):
            self._database.transact(
                [
                    {
                        "op": "mutate",
                        "table": "Open_vSwitch",
                        "where": [],
                        "mutations": [[column, *mutation]],
                    }
                ]
            )
            self._wake.wait(1.0)
