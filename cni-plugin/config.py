"""The agent's options, from a TOML file. Every one has a default, and `explain` says what it is."""

from __future__ import annotations

import os
import tomllib
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec

from ovsnet import names
from ovsnet.cni.discovery import AGENTS, OPENFLOW
from ovsnet.cni.ranges import NodeRanges

_LONGEST_DEVICE = 15


class ConfigError(Exception):
    """The file cannot be read, or an option in it is wrong; the text names it."""


def _option(description: str) -> msgspec.Meta:
    return msgspec.Meta(description=description)


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The agent's options."""

    node: Annotated[str, _option("Name of this node's Node object; empty: the host's name.")] = ""
    kubeconfig: Annotated[
        str, _option("Kubeconfig file for reading the own Node object; empty: service account.")
    ] = ""
    apiserver: Annotated[
        str,
        _option(
            "Where the API server is reached, as in https://192.0.2.1:6443, in place of the address"
            " that the credentials name; empty: there."
        ),
    ] = ""
    pod_cidrs: Annotated[
        tuple[str, ...],
        _option("The node's ranges, one of each family at most, instead of the Node object's."),
    ] = ()
    cluster_cidrs: Annotated[
        tuple[str, ...], _option("Ranges of all pods of the cluster; what the node routes there.")
    ] = ("10.244.0.0/16", "fd00:10:244::/56")
    services: Annotated[
        tuple[str, ...],
        _option("Ranges of the cluster's service addresses; the node routes them into its switch."),
    ] = ("10.96.0.0/12", "fd00:10:96::/112")
    external: Annotated[
        tuple[str, ...],
        _option("Further ranges that are services': load balancers' and external addresses."),
    ] = ()
    node_ports: Annotated[
        str,
        _option("First and last port of node ports, which go to the switch; `none`: none do."),
    ] = names.port_range_text(names.NODE_PORTS)
    controllers: Annotated[
        tuple[str, ...],
        _option("Targets of the controllers, as in ssl:192.0.2.1:6653; tcp: is plain text."),
    ] = ("tcp:127.0.0.1:6653",)
    agents_urls: Annotated[
        tuple[str, ...],
        _option(
            "Where the controllers listen for agents, as in https://192.0.2.1:9096; http: is plain"
            " text."
        ),
    ] = ("http://127.0.0.1:9096",)
    controller_service: Annotated[
        str,
        _option(
            "Namespace and name of the Service whose endpoints are the controllers, in place of"
            f" controllers and agents_urls; its ports are named {OPENFLOW} and {AGENTS}."
        ),
    ] = ""
    plain: Annotated[
        bool, _option("Speak with the controllers of controller_service in plain text.")
    ] = False
    authority: Annotated[
        str, _option("Namespace and name of the ConfigMap that says which controllers to trust.")
    ] = f"ovsnet-system/{names.AUTHORITY}"
    token: Annotated[
        str,
        _option("File with the token by which controllers know this node when it first comes."),
    ] = "/var/run/secrets/ovsnet/token"
    ovsdb: Annotated[str, _option("Socket of Open vSwitch's database.")] = (
        "/var/run/openvswitch/db.sock"
    )
    ovs_rundir: Annotated[
        str, _option("Directory of ovs-vswitchd's pid file and control sockets.")
    ] = "/var/run/openvswitch"
    bridge: Annotated[str, _option("Name of the integration bridge.")] = names.BRIDGE
    datapath: Annotated[
        Literal["auto", "system", "netdev"],
        _option("system: the kernel's; netdev: userspace; auto: the kernel's where it exists."),
    ] = "auto"
    underlay: Annotated[
        str, _option("Device that carries the overlay; empty: that of the default route.")
    ] = ""
    underlay_bridge: Annotated[
        str,
        _option(
            "Bridge to make of the underlay device, as in br-phy, which the userspace datapath"
            " needs for the overlay; empty: none."
        ),
    ] = ""
    mtu: Annotated[
        int, msgspec.Meta(ge=0, le=65535, description="MTU of pods; 0: found from the underlay.")
    ] = 0
    tunnel: Annotated[bool, _option("Make the overlay's port.")] = True
    tunnel_type: Annotated[
        Literal["vxlan", "geneve"], _option("What the overlay wraps packets in.")
    ] = "vxlan"
    tunnel_port: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            le=65535,
            description="UDP port of the overlay; 0: 4789 for vxlan, 6081 for geneve.",
        ),
    ] = 0
    masquerade: Annotated[
        bool, _option("Masquerade what pods send to addresses outside the cluster.")
    ] = True
    cni_conf_dir: Annotated[str, _option("Where the network configuration is written.")] = (
        "/etc/cni/net.d"
    )
    cni_conf_name: Annotated[str, _option("File name of the network configuration.")] = (
        "10-ovsnet.conflist"
    )
    cni_bin_dir: Annotated[str, _option("Where the plugin is installed.")] = "/opt/cni/bin"
    network: Annotated[str, _option("Name of the network.")] = "ovsnet"
    chain: Annotated[
        tuple[Literal["portmap", "tuning"], ...],
        _option("Plugins to run after ours; one that is not in cni_bin_dir is left out."),
    ] = ("portmap",)
    plugins: Annotated[
        str,
        _option("Directory with loopback and plugins of the chain, for hosts that lack them."),
    ] = ""
    interpreter: Annotated[
        str,
        _option(
            "Python that runs the plugin; empty: what the image brings, else /usr/bin/python3."
        ),
    ] = ""
    socket: Annotated[str, _option("Socket on which the plugin reaches the agent.")] = (
        "/run/ovsnet/agent.sock"
    )
    state_dir: Annotated[str, _option("Where the agent keeps its records.")] = "/var/lib/ovsnet"
    deadline: Annotated[
        float, msgspec.Meta(gt=0, le=600, description="Seconds that an ADD may take.")
    ] = 15.0
    quarantine: Annotated[
        float,
        msgspec.Meta(ge=0, le=86400, description="Seconds before an address is used again."),
    ] = 30.0
    housekeeping: Annotated[
        float, msgspec.Meta(gt=0, le=3600, description="Seconds between looks at the whole node.")
    ] = 5.0
    log_format: Annotated[Literal["logfmt", "json"], _option("Form of the log's lines.")] = "logfmt"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], _option("Least level that is logged.")
    ] = "info"

    def __post_init__(self) -> None:
        if self.pod_cidrs:
            NodeRanges.of(self.pod_cidrs)
        networks(self.cluster_cidrs)
        for option in ("services", "external"):
            _check_service_ranges(option, getattr(self, option))
        redirected = self.redirected_ports
        if self.tunnel and redirected and redirected[0] <= self.overlay_port <= redirected[1]:
            raise ValueError(
                f"node_ports: {self.node_ports!r} holds tunnel_port {self.overlay_port}, which must"
                " stay the overlay's"
            )
        if self.underlay_bridge and self.datapath == "system":
            raise ValueError("underlay_bridge: only the userspace datapath needs one")
        others = {self.bridge, self.underlay, *names.RESERVED_PORTS} - {""}
        if len(self.underlay_bridge.encode()) > _LONGEST_DEVICE or self.underlay_bridge in others:
            raise ValueError(
                f"underlay_bridge: {self.underlay_bridge!r}; expected a name of its own of at most"
                f" {_LONGEST_DEVICE} characters"
            )
        self._check_controllers()

    def _check_controllers(self) -> None:
        for target in self.controllers:
            if target.split(":", 1)[0] not in {"tcp", "ssl", "unix"}:
                raise ValueError(f"controllers: {target!r}; expected tcp:ADDRESS:PORT or the like")
        for url in self.agents_urls:
            split = urlsplit(url)
            http = split.scheme in {"http", "https"}
            wrong = not http or not split.hostname or split.query or split.fragment
            # Asked for its port, it says itself what is wrong with it.
            if wrong or split.port == 0:
                raise ValueError(f"agents_urls: {url!r}; expected https://ADDRESS:PORT")
        for option in ("authority", "controller_service"):
            text: str = getattr(self, option)
            namespace, _, name = text.partition("/")
            none = option == "controller_service" and not text
            if not none and (not namespace or not name or "/" in name):
                raise ValueError(f"{option}: {text!r}; expected NAMESPACE/NAME")
        configured = not self.controller_service
        if configured and self.secure and not any(map(_is_https, self.agents_urls)):
            raise ValueError("agents_urls: with ssl: controllers one of them must be https:")

    @property
    def node_name(self) -> str:
        """The node's name; the host's where none is configured."""
        return self.node or os.uname().nodename

    @property
    def overlay_port(self) -> int:
        """The UDP port of the overlay."""
        return self.tunnel_port or names.TUNNEL_UDP_PORTS[self.tunnel_type]

    @property
    def secure(self) -> bool:
        """Whether the node needs a certificate: some controller is spoken with over TLS."""
        if self.controller_service:
            return not self.plain
        return any(t.startswith("ssl:") for t in self.controllers) or any(
            map(_is_https, self.agents_urls)
        )

    @property
    def cluster(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The cluster's pod ranges."""
        return networks(self.cluster_cidrs)

    @property
    def service_ranges(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """All ranges whose addresses are services': the cluster's own and external ones."""
        return networks((*self.services, *self.external))

    @property
    def redirected_ports(self) -> names.PortRange | None:
        """First and last node port, None if none are redirected.

        Raises:
            ValueError: `node_ports` is neither such a range nor `none`.
        """
        if self.node_ports in {"", "none"}:
            return None
        try:
            return names.port_range(self.node_ports)
        except ValueError as error:
            raise ValueError(f"node_ports: {error}, or none") from None

    @property
    def patience(self) -> float:
        """Seconds that the plugin waits for the agent: longer than an ADD and its undo take."""
        return self.deadline + 15.0


def _is_https(url: str) -> bool:
    return url.startswith("https:")


def networks(texts: tuple[str, ...]) -> tuple[IPv4Network | IPv6Network, ...]:
    """Ranges from their text.

    Raises:
        ValueError: one is no range.
    """
    return tuple(ip_network(text) for text in texts)


def _check_service_ranges(option: str, texts: tuple[str, ...]) -> None:
    """See that these can be routed into the switch without cutting the node off from all else."""
    for text in texts:
        try:
            network = ip_network(text)
        except ValueError as error:
            raise ValueError(f"{option}: {error}") from None
        if network.prefixlen == 0:
            raise ValueError(f"{option}: {text} is everything; expected a range of services")
        if network.is_loopback or network.is_link_local or network.is_multicast:
            raise ValueError(f"{option}: {text} has no addresses that are routed")


def load(path: Path) -> Config:
    """Read the file.

    Raises:
        ConfigError: it cannot be read, is no TOML, has an unknown option or a wrong value.
    """
    try:
        return msgspec.convert(tomllib.loads(path.read_text()), Config, strict=True)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from None


def explain() -> str:
    """All options with their defaults and meaning, as a TOML file."""
    lines = []
    for option in msgspec.inspect.type_info(Config).fields:  # type: ignore[attr-defined]
        lines += [f"# {_description(option.type)}", f"{option.name} = {_toml(option.default)}", ""]
    return "\n".join(lines)


def _description(kind: msgspec.inspect.Type) -> str:
    if isinstance(kind, msgspec.inspect.Metadata):
        return str((kind.extra_json_schema or {}).get("description", ""))
    return ""


def _toml(value: object) -> str:
    return msgspec.json.encode(value).decode()
