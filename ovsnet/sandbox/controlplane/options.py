"""How a control plane is to be."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path

import msgspec

ETCD = "etcd"
API_SERVER = "kube-apiserver"
CONTROLLER_MANAGER = "kube-controller-manager"
SCHEDULER = "kube-scheduler"

CONTROLLERS = (CONTROLLER_MANAGER, SCHEDULER)
"""Those that work through the API server."""


class Outlet(msgspec.Struct, frozen=True):
    """A kubeconfig that is written once everything answers, for the administrator at `server`."""

    file: str
    server: str = ""
    """A URL; empty: where the API server listens."""


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a control plane is to be. Only where it is kept and its programs must be told."""

    programs: str
    """The directory with the programs; etcd may also be on PATH."""

    directory: str
    """Keys, etcd's data and logs. What is there from an earlier start is used again."""

    run: tuple[str, ...] = CONTROLLERS
    """What runs beside etcd and the API server."""

    bind: str = "127.0.0.1"
    """The address that the API server listens on."""

    port: int = 6443

    advertise: str = ""
    """Where the whole cluster reaches it: the endpoint of the service `kubernetes`. Empty: it has
    none."""

    names: tuple[str, ...] = ()
    """Further names and addresses that its certificate is for."""

    netns: str = ""
    """The network namespace that all of it runs in; empty: the one of whoever starts it."""

    forward: int = 0
    """A port of 127.0.0.1 in the starter's namespace that leads to the API server; 0: none."""

    service_ranges: tuple[str, ...] = ("10.96.0.0/16", "fd00:10:96::/112")
    pod_ranges: tuple[str, ...] = ("10.244.0.0/16", "fd00:10:244::/56")
    """Nodes get a /24 and a /64 of these; none: nodes get no ranges."""

    authorization: tuple[str, ...] = ("Node", "RBAC")
    enable_admission: tuple[str, ...] = ("NodeRestriction",)
    disable_admission: tuple[str, ...] = ()

    issuer: str = "https://kubernetes.default.svc.cluster.local"
    """Who issues the tokens of service accounts."""

    service_account_key: str = ""
    """A file with the private key that signs them; empty: one is made."""

    flags: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    """By program: more flags, behind those that are made here, so that they win."""

    kubeconfigs: tuple[Outlet, ...] = ()
    """Besides `admin.kubeconfig` in `directory`, which says where the API server listens."""

    @property
    def root(self) -> Path:
        """`directory` as a path."""
        return Path(self.directory)

    @property
    def host(self) -> str:
        """An address of the API server, in its network namespace."""
        if not ip_address(self.bind).is_unspecified:
            return self.bind
        return self.advertise or "127.0.0.1"

    @property
    def server(self) -> str:
        """The URL of the API server, in its network namespace."""
        return (
            f"https://[{self.host}]:{self.port}"
            if ":" in self.host
            else f"https://{self.host}:{self.port}"
        )

    @property
    def service_addresses(self) -> tuple[str, ...]:
        """The addresses that the service `kubernetes` may get: the first of each range."""
        return tuple(str(ip_network(each)[1]) for each in self.service_ranges)


def admin_kubeconfig(root: Path) -> Path:
    """The kubeconfig that may do everything. It is there once the control plane answers."""
    return root / "admin.kubeconfig"


def logs(root: Path) -> Path:
    """The directory with what each program printed, in `PROGRAM.log`."""
    return root / "log"
