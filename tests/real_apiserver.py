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
from typing import Any

import pytest

from ovsnet.sandbox.controlplane.options import Options
from ovsnet.sandbox.controlplane.start import running
from ovsnet.sandbox.layout import PROGRAMS_VARIABLE


def at_hand() -> Path | None:
    """The directory with the programs, if there is one."""
    directory = os.environ.get(PROGRAMS_VARIABLE, "")
    return Path(directory).resolve() if directory else None


def require() -> Path:
    """The directory with the programs; skips the test if there is none."""
    directory = at_hand()
    if directory is None:
        pytest.skip(f"no real kube-apiserver at hand ({PROGRAMS_VARIABLE} is not set)")
    return directory


@contextlib.contextmanager
def api_server(**options: Any) -> Iterator[Path]:
    """etcd and a kube-apiserver alone, unless `options` say more; yields a kubeconfig."""
    programs = str(require())
    with tempfile.TemporaryDirectory(prefix="ovsnet-kubernetes-") as root:
        settings = {"run": (), "port": free_port(), "authorization": ("RBAC",)} | options
        with running(Options(programs=programs, directory=root, **settings)) as kubeconfig:
            yield kubeconfig


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
