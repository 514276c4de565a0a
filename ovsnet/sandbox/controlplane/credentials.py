"""The files by which the parts of a control plane know each other, and kubeconfigs for others."""

from __future__ import annotations

import os
import tempfile
from base64 import b64encode
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import yaml

from ovsnet.sandbox.controlplane import certificates
from ovsnet.sandbox.controlplane.certificates import Pair
from ovsnet.sandbox.controlplane.options import (
    CONTROLLER_MANAGER,
    SCHEDULER,
    Options,
    admin_kubeconfig,
)

MASTERS = "system:masters"
"""The group that may do everything, whatever the authorization mode."""

NODES = "system:nodes"

USERS = {
    CONTROLLER_MANAGER: "system:kube-controller-manager",
    SCHEDULER: "system:kube-scheduler",
}
_NAMES = (
    "localhost",
    "127.0.0.1",
    "::1",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)


def authority_file(root: Path) -> Path:
    """The certificate of the authority."""
    return root / "pki" / "ca.crt"


def key_file(certificate: Path) -> Path:
    """The file with the private key of a certificate."""
    return certificate.with_suffix(".key")


def server_file(root: Path) -> Path:
    """The API server's certificate."""
    return root / "pki" / "apiserver.crt"


def kubelet_client_file(root: Path) -> Path:
    """The certificate by which the API server is known to kubelets."""
    return root / "pki" / "apiserver-kubelet-client.crt"


def service_account_file(options: Options) -> Path:
    """The private key that signs the tokens of service accounts."""
    return Path(options.service_account_key or options.root / "pki" / "sa.key")


def service_account_public_file(root: Path) -> Path:
    """The key by which such tokens are verified."""
    return root / "pki" / "sa.pub"


def kubeconfig_file(root: Path, program: str) -> Path:
    """The kubeconfig of a part of the control plane."""
    return root / f"{program}.kubeconfig"


def prepare(options: Options, now: datetime) -> None:
    """Make the keys and certificates that are not there, and what must say where all of it is.

    The authority stays as it is, so that clients which know it go on.

    Raises:
        OSError: a file cannot be read or written.
    """
    root = options.root
    authority = _authority(root, now)
    signer = service_account_file(options)
    if not signer.exists():
        _write_secret(signer, certificates.private_key())
    service_account_public_file(root).write_bytes(certificates.public_key(signer.read_bytes()))
    names = dict.fromkeys(
        name
        for name in (
            *_NAMES,
            *options.service_addresses,
            options.bind,
            options.advertise,
            *options.names,
        )
        if name
    )
    _write_pair(server_file(root), certificates.server(authority, names, now))
    _write_pair(
        kubelet_client_file(root),
        certificates.client(authority, "kube-apiserver-kubelet-client", (MASTERS,), now),
    )
    for program, user in USERS.items():
        text = kubeconfig(root, options.server, user, (), now)
        _write_secret(kubeconfig_file(root, program), text.encode())


def publish(options: Options, now: datetime) -> None:
    """Write the administrator's kubeconfigs, each whole or not at all.

    Raises:
        OSError: a file cannot be written.
    """
    outlets = {admin_kubeconfig(options.root): options.server} | {
        Path(outlet.file): outlet.server or options.server for outlet in options.kubeconfigs
    }
    for file, server in outlets.items():
        _write_secret(file, administrator(options.root, server, now).encode())


def administrator(root: Path, server: str, now: datetime) -> str:
    """A kubeconfig that may do everything."""
    return kubeconfig(root, server, "admin", (MASTERS,), now)


def node_kubeconfig(root: Path, server: str, node: str, now: datetime) -> str:
    """A kubeconfig for the kubelet of a node, which the Node authorizer knows as such."""
    return kubeconfig(root, server, f"system:node:{node}", (NODES,), now)


def kubeconfig(root: Path, server: str, user: str, groups: Iterable[str], now: datetime) -> str:
    """A kubeconfig for a user of these groups, with a new certificate.

    Raises:
        OSError: the authority's files cannot be read.
    """
    pair = certificates.client(_authority(root, now), user, groups, now)
    return _document(
        root,
        server,
        {
            "client-certificate-data": b64encode(pair.certificate).decode(),
            "client-key-data": b64encode(pair.key).decode(),
        },
    )


def token_kubeconfig(root: Path, server: str, token: str) -> str:
    """A kubeconfig for whomever the API server gave that token.

    Raises:
        OSError: the authority's certificate cannot be read.
    """
    return _document(root, server, {"token": token})


def _document(root: Path, server: str, user: dict[str, str]) -> str:
    trusted = b64encode(authority_file(root).read_bytes()).decode()
    name = "kubernetes"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": name, "cluster": {"server": server, "certificate-authority-data": trusted}}
        ],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    return yaml.safe_dump(config, sort_keys=False)


def _authority(root: Path, now: datetime) -> Pair:
    file = authority_file(root)
    if not file.exists():
        _write_pair(file, certificates.authority("kubernetes-ca", now))
    return Pair(file.read_bytes(), key_file(file).read_bytes())


def _write_pair(file: Path, pair: Pair) -> None:
    # The certificate last: where it is, its key is too.
    _write_secret(key_file(file), pair.key)
    _write_secret(file, pair.certificate)


def _write_secret(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
    with os.fdopen(handle, "wb") as written:
        written.write(content)
    Path(partial).replace(file)
