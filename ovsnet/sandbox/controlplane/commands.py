"""The command lines of a control plane's programs. Pure.

What the flags mean is in Kubernetes' reference of the command line tools, and in etcd's
configuration options.
"""

from __future__ import annotations

from collections.abc import Mapping

from ovsnet.sandbox.controlplane import credentials
from ovsnet.sandbox.controlplane.options import (
    CONTROLLER_MANAGER,
    SCHEDULER,
    Options,
)

Flags = Mapping[str, str]


def etcd_flags(options: Options, client_url: str, peer_url: str) -> Flags:
    """Of etcd, which listens for clients and for peers that it has none of."""
    return {
        "data-dir": str(options.root / "etcd"),
        "listen-client-urls": client_url,
        "advertise-client-urls": client_url,
        "listen-peer-urls": peer_url,
        "initial-advertise-peer-urls": peer_url,
        "initial-cluster": f"default={peer_url}",
        # A machine that loses power loses what is kept here, which nobody will miss.
        "unsafe-no-fsync": "true",
    }


def api_server_flags(options: Options, etcd_url: str) -> Flags:
    """Of kube-apiserver."""
    root = options.root
    kubelet_client = credentials.kubelet_client_file(root)
    server = credentials.server_file(root)
    return {
        # Without one it would take one of the machine's own, or not start where there is none.
        "advertise-address": options.advertise or options.host,
        "endpoint-reconciler-type": "" if options.advertise else "none",
        "etcd-servers": etcd_url,
        "bind-address": options.bind,
        "secure-port": str(options.port),
        "tls-cert-file": str(server),
        "tls-private-key-file": str(credentials.key_file(server)),
        "client-ca-file": str(credentials.authority_file(root)),
        "kubelet-client-certificate": str(kubelet_client),
        "kubelet-client-key": str(credentials.key_file(kubelet_client)),
        "kubelet-preferred-address-types": "InternalIP",
        "service-account-key-file": str(credentials.service_account_public_file(root)),
        "service-account-signing-key-file": str(credentials.service_account_file(options)),
        "service-account-issuer": options.issuer,
        "service-cluster-ip-range": ",".join(options.service_ranges),
        "authorization-mode": ",".join(options.authorization),
        "enable-admission-plugins": ",".join(options.enable_admission),
        "disable-admission-plugins": ",".join(options.disable_admission),
        "allow-privileged": "true",
        "profiling": "false",
    }


def controller_manager_flags(options: Options) -> Flags:
    """Of kube-controller-manager."""
    root = options.root
    authority = credentials.authority_file(root)
    lengths = {4: ("node-cidr-mask-size-ipv4", "24"), 6: ("node-cidr-mask-size-ipv6", "64")}
    single = len(options.pod_ranges) == 1
    ranges = {
        "node-cidr-mask-size" if single else lengths[version][0]: lengths[version][1]
        for version in (6 if ":" in each else 4 for each in options.pod_ranges)
    }
    if options.pod_ranges:
        ranges |= {"allocate-node-cidrs": "true", "cluster-cidr": ",".join(options.pod_ranges)}
    return {
        **_client_flags(options, CONTROLLER_MANAGER),
        **ranges,
        "service-cluster-ip-range": ",".join(options.service_ranges),
        "service-account-private-key-file": str(credentials.service_account_file(options)),
        "use-service-account-credentials": "true",
        "root-ca-file": str(authority),
        "cluster-signing-cert-file": str(authority),
        "cluster-signing-key-file": str(credentials.key_file(authority)),
    }


def _client_flags(options: Options, program: str) -> Flags:
    """Of whoever works through the API server: it is the only one, and serves nothing itself."""
    return {
        "kubeconfig": str(credentials.kubeconfig_file(options.root, program)),
        "leader-elect": "false",
        "secure-port": "0",
        "profiling": "false",
        "kube-api-qps": "200",
        "kube-api-burst": "400",
    }


def controller_flags(options: Options, program: str) -> Flags:
    """Of kube-controller-manager or kube-scheduler."""
    if program == SCHEDULER:
        return _client_flags(options, SCHEDULER)
    return controller_manager_flags(options)


def command(path: str, flags: Flags, more: tuple[str, ...] = ()) -> tuple[str, ...]:
    """A program with its flags; those without a value are left out."""
    return (path, *(f"--{name}={value}" for name, value in flags.items() if value), *more)
