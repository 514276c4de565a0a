"""A real kube-apiserver for tests, where its programs are at hand.

OVSNET_SANDBOX_APISERVER names the directory with kube-apiserver, kube-controller-manager and
kube-scheduler; `make integration-real` sets it. Without it, what needs them is skipped.
"""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovsnet.sandbox.controlplane.options import Options
from ovsnet.sandbox.controlplane.start import running

VARIABLE = "OVSNET_SANDBOX_APISERVER"


def at_hand() -> Path | None:
    """The directory with the programs, if there is one."""
    directory = os.environ.get(VARIABLE, "")
    return Path(directory).resolve() if directory else None


@contextlib.contextmanager
def api_server(*controllers: str) -> Iterator[Path]:
    """etcd and a kube-apiserver, and those of the controllers; yields a kubeconfig."""
    directory = at_hand()
    if directory is None:
        pytest.skip(f"no real kube-apiserver at hand ({VARIABLE} is not set)")
    with tempfile.TemporaryDirectory(prefix="ovsnet-kubernetes-") as root:
        options = Options(
            programs=str(directory),
            directory=root,
            port=_free_port(),
            run=controllers,
            authorization=("RBAC",),
        )
        with running(options) as kubeconfig:
            yield kubeconfig


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
